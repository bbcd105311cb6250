//! A Dockerfile as text again: normal spaces, one instruction a line. What is printed and parsed is the same Dockerfile.

use crate::dockerfile::Dockerfile;
use crate::instruction::{
    Arg, CommandLine, Files, From, Healthcheck, Heredoc, Instruction, KeyValue, Mount, Run, Statement,
};
use crate::position::Word;
use crate::syntax::{continued, is_array};
use std::fmt::{self, Write};
use std::time::Duration;

/// A space that may stand between words but not within JSON.
const VERTICAL_TAB: char = '\u{b}';

impl fmt::Display for Dockerfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for directive in &self.directives.written {
            writeln!(f, "# {}={}", directive.name, directive.value)?;
        }
        // So that no comment is taken for a directive.
        let first = self.arguments.first().map(|arg| &arg.comments);
        let first = first.or(self.stages.first().map(|stage| &stage.from.comments));
        if first.is_some_and(|comments| !comments.is_empty()) {
            writeln!(f, "#")?;
        }
        let escape = self.directives.escape;
        for arg in &self.arguments {
            write_statement(f, arg, escape, |line| line.arg(&arg.instruction))?;
        }
        for stage in &self.stages {
            write_statement(f, &stage.from, escape, |line| line.from(&stage.from.instruction))?;
            for statement in &stage.body {
                write_statement(f, statement, escape, |line| {
                    line.instruction(&statement.instruction)
                })?;
            }
        }
        Ok(())
    }
}

/// The instruction on one line, without comments and here-documents: for messages about a step.
impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = Line::new(&self.keyword);
        line.instruction(&self.instruction);
        f.write_str(&line.text)
    }
}

impl fmt::Display for Statement<From> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = Line::new(&self.keyword);
        line.from(&self.instruction);
        f.write_str(&line.text)
    }
}

fn write_statement<T>(
    f: &mut fmt::Formatter<'_>,
    statement: &Statement<T>,
    escape: char,
    write: impl FnOnce(&mut Line),
) -> fmt::Result {
    for comment in &statement.comments {
        writeln!(f, "# {comment}")?;
    }
    let mut line = Line::new(&statement.keyword);
    write(&mut line);
    f.write_str(&line.text)?;
    if continued(&line.text, escape).is_some() {
        f.write_char(VERTICAL_TAB)?;
    }
    writeln!(f)?;
    for text in line.below {
        writeln!(f, "{text}")?;
    }
    Ok(())
}

/// An instruction on one line, and what stands below it.
struct Line {
    text: String,
    below: Vec<String>,
}

impl Line {
    fn new(keyword: &str) -> Self {
        Line {
            text: keyword.to_owned(),
            below: Vec::new(),
        }
    }

    fn instruction(&mut self, instruction: &Instruction) {
        match instruction {
            Instruction::Add(add) => {
                self.files_flags(&add.files);
                self.flag("checksum", add.checksum.as_ref());
                self.truth("keep-git-dir", add.keep_git_dir);
                self.truth("unpack", add.unpack);
                self.files(&add.files);
            }
            Instruction::Arg(arg) => self.arg(arg),
            Instruction::Cmd(command) | Instruction::Entrypoint(command) => self.command(command),
            Instruction::Copy(copy) => {
                self.flag("from", copy.from.as_ref());
                self.files_flags(&copy.files);
                self.files(&copy.files);
            }
            Instruction::Env(env) => self.pairs(&env.variables, env.legacy),
            Instruction::Expose(ports) => self.arguments(&join(ports, ' ')),
            Instruction::Healthcheck(healthcheck) => self.healthcheck(healthcheck),
            Instruction::Label(label) => self.pairs(&label.labels, label.legacy),
            Instruction::Maintainer(text)
            | Instruction::StopSignal(text)
            | Instruction::User(text)
            | Instruction::Workdir(text) => self.arguments(text),
            Instruction::Onbuild(onbuild) => {
                let mut lines = onbuild.text.split('\n');
                self.arguments(lines.next().unwrap_or_default());
                self.below.extend(lines.map(str::to_owned));
            }
            Instruction::Run(run) => self.run(run),
            Instruction::Shell(words) => self.arguments(&json(words)),
            Instruction::Volume(volume) => self.words(&volume.words.iter().collect::<Vec<_>>(), volume.json),
        }
    }

    fn from(&mut self, from: &From) {
        self.flag("platform", from.platform.as_ref());
        let words = [Some(&from.image), from.keyword.as_ref(), from.name.as_ref()];
        self.arguments(&join(words.into_iter().flatten(), ' '));
    }

    fn arg(&mut self, arg: &Arg) {
        let argument = |argument: &crate::instruction::Argument| match &argument.default {
            Some(default) => format!("{}={default}", argument.name),
            None => argument.name.value.clone(),
        };
        let words: Vec<String> = arg.arguments.iter().map(argument).collect();
        self.arguments(&words.join(" "));
    }

    fn pairs(&mut self, pairs: &[KeyValue], legacy: bool) {
        let pair = |pair: &KeyValue| {
            let sign = match legacy {
                false => "=",
                // An escape at the end of the name must not reach the value.
                true if pair.name.ends_with(['\\', '`']) => "  ",
                true => " ",
            };
            format!("{}{sign}{}", pair.name, pair.value)
        };
        let words: Vec<String> = pairs.iter().map(pair).collect();
        self.arguments(&words.join(" "));
    }

    fn run(&mut self, run: &Run) {
        for mount in &run.mounts {
            self.flag_text("mount", &mount_list(mount));
        }
        if let Some(network) = run.network {
            self.flag_text("network", network.as_str());
        }
        if let Some(security) = run.security {
            self.flag_text("security", security.as_str());
        }
        self.command(&run.command);
        self.heredocs(&run.heredocs);
    }

    fn healthcheck(&mut self, healthcheck: &Healthcheck) {
        let check = match healthcheck {
            Healthcheck::None => return self.arguments("NONE"),
            Healthcheck::Command(check) => check,
        };
        for (name, value) in [
            ("interval", check.interval),
            ("timeout", check.timeout),
            ("start-period", check.start_period),
            ("start-interval", check.start_interval),
        ] {
            if let Some(value) = value {
                self.flag_text(name, &duration(value));
            }
        }
        if let Some(retries) = check.retries {
            self.flag_text("retries", &retries.to_string());
        }
        let command = match &check.command {
            CommandLine::Shell(text) => text.value.clone(),
            CommandLine::Exec(words) => json(words),
        };
        self.arguments(&format!("CMD {command}"));
    }

    fn files_flags(&mut self, files: &Files) {
        self.flag("chown", files.chown.as_ref());
        self.flag("chmod", files.chmod.as_ref());
        self.truth("link", files.link);
        self.truth("parents", files.parents);
        for pattern in &files.exclude {
            self.flag_text("exclude", pattern);
        }
    }

    fn files(&mut self, files: &Files) {
        let words: Vec<&Word> = files.words.iter().chain([&files.destination]).collect();
        self.words(&words, files.json);
        self.heredocs(&files.heredocs);
    }

    fn heredocs(&mut self, heredocs: &[Heredoc]) {
        let text = |heredoc: &Heredoc| format!("{}{}", heredoc.content, heredoc.name);
        self.below.extend(heredocs.iter().map(text));
    }

    fn command(&mut self, command: &CommandLine) {
        match command {
            CommandLine::Shell(text) => self.arguments(text),
            CommandLine::Exec(words) => self.arguments(&json(words)),
        }
    }

    fn words(&mut self, words: &[&Word], is_json: bool) {
        let text = match is_json {
            true => json(words.iter().copied()),
            false => join(words.iter().copied(), ' '),
        };
        match !is_json && is_array(&text) {
            true => self.arguments(&join(words.iter().copied(), VERTICAL_TAB)),
            false => self.arguments(&text),
        }
    }

    fn arguments(&mut self, text: &str) {
        if text.starts_with("--") {
            self.text.push_str(" --");
        }
        if !text.is_empty() {
            self.text.push(' ');
            self.text.push_str(text);
        }
    }

    fn flag(&mut self, name: &str, value: Option<&Word>) {
        if let Some(value) = value {
            self.flag_text(name, value);
        }
    }

    fn truth(&mut self, name: &str, value: Option<bool>) {
        match value {
            Some(true) => self.text.extend([" --", name]),
            Some(false) => self.text.extend([" --", name, "=false"]),
            None => {}
        }
    }

    fn flag_text(&mut self, name: &str, value: &str) {
        self.text.extend([" --", name, "="]);
        for character in value.chars() {
            if !character.is_alphanumeric() && !"-_./=,:@+%*?[]!^~".contains(character) {
                self.text.push('\\');
            }
            self.text.push(character);
        }
    }
}

fn join<'a>(words: impl IntoIterator<Item = &'a Word>, space: char) -> String {
    let mut text = String::new();
    for (index, word) in words.into_iter().enumerate() {
        if index > 0 {
            text.push(space);
        }
        text.push_str(word);
    }
    text
}

fn json<'a>(words: impl IntoIterator<Item = &'a Word>) -> String {
    let words: Vec<&str> = words.into_iter().map(|word| word.as_str()).collect();
    serde_json::Value::from(words).to_string()
}

fn mount_list(mount: &Mount) -> String {
    let field = |option: &crate::instruction::MountOption| {
        let field = match &option.argument {
            Some(argument) => format!("{}={argument}", option.key),
            None => option.key.clone(),
        };
        match field.contains([',', '"']) {
            true => format!("\"{}\"", field.replace('"', "\"\"")),
            false => field,
        }
    };
    let fields: Vec<String> = mount.options.iter().map(|option| field(option)).collect();
    fields.join(",")
}

fn duration(duration: Duration) -> String {
    match (duration.as_secs(), duration.subsec_nanos()) {
        (seconds, 0) => format!("{seconds}s"),
        (0, nanoseconds) => format!("{nanoseconds}ns"),
        (seconds, nanoseconds) => format!("{seconds}s{nanoseconds}ns"),
    }
}
