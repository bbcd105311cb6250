//! Building images, against buildah with crun: the same Dockerfiles with the same contexts and base images, on one disk.

mod prepare;
mod recipes;
mod sides;
mod watch;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

pub(crate) use prepare::prepare;

use crate::Places;
use crate::figures::Series;
use recipes::{RECIPES, Recipe};
use sides::Site;
use watch::{Seen, watch};

/// As many rounds there are of a recipe, but no other begins after [`ENOUGH`]: one takes minutes where the processor is emulated.
const MOST_ROUNDS: usize = 3;
const ENOUGH: Duration = Duration::from_secs(300);

/// What is built again, and the most that hull may take of buildah's time.
const CASES: [(&str, f64); 3] = [("cold", 1.5), ("warm", 1.0), ("one file changed", 1.0)];

/// What was seen of one side in one case.
#[derive(Default)]
struct Times {
    whole: Series,
    before: Series,
    steps: Vec<(String, Series)>,
}

/// What was seen of a recipe.
#[derive(Default)]
struct Measured {
    rounds: usize,
    /// By case: buildah's, and hull's.
    cases: [(Times, Times); CASES.len()],
    /// A cold build with buildah that makes one layer only.
    one_layer: Series,
}

/// Prints the tables.
pub(crate) fn measure(places: &Places) -> Result<()> {
    eprintln!("bringing the base images");
    let site = Site::make(places)?;
    // An emulated processor translates what it runs for the first time.
    a_round(&site, &RECIPES[0], &mut Measured::default())?;
    println!("\nBuilds, against buildah with crun; rounds in turn after one to warm up\n");
    println!(
        "| build | case | rounds | buildah median ms | quartiles ms | hull median ms | quartiles ms | hull / buildah | goal |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|---:|---:|");
    let mut all = Vec::new();
    for recipe in &RECIPES {
        let measured = rounds(&site, recipe)?;
        print_rows(recipe, &measured);
        all.push((recipe, measured));
    }
    println!(
        "\n- buildah: `buildah build --layers`, so that it keeps each step for the next build, as hull does; its storage is overlay, \
         its isolation oci with crun. In one layer: with `--layers=false`, after which no build is warm."
    );
    println!("- hull: `hull build`, the whole command. Both give their commands no network.");
    println!(
        "- cold: nothing there but the base images. warm: the same again. One file changed: what the last COPY of the context copies."
    );
    for (recipe, measured) in &all {
        print_steps(recipe, measured)?;
    }
    Ok(())
}

fn print_rows(recipe: &Recipe, measured: &Measured) {
    let (what, rounds) = (recipe.what, measured.rounds);
    let row = |case: &str, theirs: &Series, ours: &Series, goal: String| {
        let ratio = ours.median() / theirs.median();
        println!("| {what} | {case} | {rounds} | {theirs} | {ours} | {ratio:.2} | {goal} |");
    };
    for ((case, goal), (theirs, ours)) in CASES.iter().zip(&measured.cases) {
        row(case, &theirs.whole, &ours.whole, format!("≤ {goal:.1}"));
    }
    if recipe.in_one_layer {
        let (_, cold) = &measured.cases[0];
        let case = "cold, buildah in one layer";
        row(case, &measured.one_layer, &cold.whole, "–".into());
    }
}

/// Prints where the time goes, by the lines that both print.
fn print_steps(recipe: &Recipe, measured: &Measured) -> Result<()> {
    println!("\nSteps of {} (medians in ms: buildah, hull)\n", recipe.what);
    let names = CASES.map(|(case, _)| case).join(" | ");
    println!("| step | {names} |");
    println!("|---|---:|---:|---:|");
    let cells = |pick: &dyn Fn(&Times) -> Option<f64>| {
        let cell = |(theirs, ours): &(Times, Times)| {
            let [theirs, ours] = [theirs, ours].map(|times| pick(times).unwrap_or(f64::NAN));
            format!("{theirs:.0}, {ours:.0}")
        };
        measured.cases.iter().map(cell).collect::<Vec<_>>().join(" | ")
    };
    println!(
        "| up to the first | {} |",
        cells(&|times| Some(times.before.median()))
    );
    let (theirs, ours) = &measured.cases[0];
    ensure!(
        theirs.steps.len() == ours.steps.len(),
        "buildah has {} steps where hull has {}",
        theirs.steps.len(),
        ours.steps.len()
    );
    for (number, (text, _)) in ours.steps.iter().enumerate() {
        let median = |times: &Times| Some(times.steps.get(number)?.1.median());
        println!("| {text} | {} |", cells(&median));
    }
    Ok(())
}

fn rounds(site: &Site<'_>, recipe: &Recipe) -> Result<Measured> {
    let mut measured = Measured::default();
    let began = Instant::now();
    while measured.rounds < MOST_ROUNDS && began.elapsed() < ENOUGH {
        eprintln!("{}, round {}", recipe.name, measured.rounds + 1);
        a_round(site, recipe, &mut measured)?;
    }
    Ok(measured)
}

fn a_round(site: &Site<'_>, recipe: &Recipe, measured: &mut Measured) -> Result<()> {
    let build = |mut command: Command| {
        settle();
        watch(&mut command)
    };
    let pair = |(theirs, ours): &mut (Times, Times)| -> Result<()> {
        theirs.add(build(site.build_with_buildah(recipe, true))?);
        ours.add(build(site.build_with_hull(recipe))?);
        Ok(())
    };
    let [cold, warm, changed] = &mut measured.cases;
    pair(cold)?;
    pair(warm)?;
    measured.rounds += 1;
    recipe.change(&site.context(recipe))?;
    pair(changed)?;
    site.forget_hull(recipe)?;
    site.forget_buildah(recipe)?;
    if recipe.in_one_layer {
        let seen = build(site.build_with_buildah(recipe, false))?;
        measured.one_layer.add(seen.whole);
        site.forget_buildah(recipe)?;
    }
    Ok(())
}

impl Times {
    fn add(&mut self, seen: Seen) {
        self.whole.add(seen.whole);
        self.before.add(seen.before);
        for (number, (text, time)) in seen.steps.into_iter().enumerate() {
            if self.steps.len() <= number {
                self.steps.push((text, Series::new()));
            }
            self.steps[number].1.add(time);
        }
    }
}

/// What was written before is on the disk.
fn settle() {
    rustix::fs::sync();
}
