//! An order of stages in which each stands behind what it needs. No recursion: a file may chain thousands of stages.

/// Stages that one needs, each behind all that it needs itself; none when they need each other.
pub(super) fn order(dependencies: &[Vec<usize>], target: usize) -> Option<Vec<usize>> {
    let mut visit = Visit::new(dependencies);
    visit.from(target).ok()?;
    Some(visit.order)
}

/// The first stage of the file that needs itself, over whatever others.
pub(super) fn cycle(dependencies: &[Vec<usize>]) -> Option<usize> {
    let mut visit = Visit::new(dependencies);
    (0..dependencies.len()).find_map(|stage| visit.from(stage).err())
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    New,
    /// What it needs is being looked at.
    Open,
    Done,
}

struct Visit<'a> {
    dependencies: &'a [Vec<usize>],
    states: Vec<State>,
    order: Vec<usize>,
}

impl<'a> Visit<'a> {
    fn new(dependencies: &'a [Vec<usize>]) -> Self {
        Visit {
            dependencies,
            states: vec![State::New; dependencies.len()],
            order: Vec::new(),
        }
    }

    /// Visits a stage and what it needs; an error is a stage on a cycle.
    fn from(&mut self, start: usize) -> Result<(), usize> {
        // Stages whose needs are being looked at, and how many of these were.
        let mut path = vec![(start, 0)];
        while let Some((stage, next)) = path.pop() {
            let Some(state) = self.states.get_mut(stage) else {
                continue;
            };
            if *state == State::Done {
                continue;
            }
            *state = State::Open;
            match self.dependencies.get(stage).and_then(|needs| needs.get(next)) {
                None => {
                    *state = State::Done;
                    self.order.push(stage);
                }
                Some(need) => {
                    if self.states.get(*need) == Some(&State::Open) {
                        return Err(*need);
                    }
                    path.push((stage, next + 1));
                    path.push((*need, 0));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stands_behind_what_it_needs() {
        let dependencies = [vec![], vec![0], vec![], vec![1, 2, 1], vec![3]];
        assert_eq!(order(&dependencies, 3), Some(vec![0, 1, 2, 3]));
        assert_eq!(order(&dependencies, 1), Some(vec![0, 1]));
        assert_eq!(cycle(&dependencies), None);
    }

    #[test]
    fn cycles_are_found() {
        assert_eq!(cycle(&[vec![0]]), Some(0));
        assert_eq!(cycle(&[vec![], vec![3], vec![1], vec![2]]), Some(1));
        assert_eq!(order(&[vec![1], vec![0]], 0), None);
    }

    #[test]
    fn long_chains_need_no_stack() {
        let chain: Vec<Vec<usize>> = (0..200_000)
            .map(|stage: usize| stage.checked_sub(1).into_iter().collect())
            .collect();
        assert_eq!(order(&chain, 199_999).map(|order| order.len()), Some(200_000));
    }
}
