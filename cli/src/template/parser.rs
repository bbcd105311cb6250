//! Tokens into a tree.

use serde_json::Value;

use super::functions::{self, Function};
use super::lexer::{self, Piece, Token};

/// Deeper nesting than anybody writes.
const MAX_DEPTH: usize = 64;

/// A part of the template.
#[derive(Debug)]
pub(super) enum Node {
    /// Written as it is.
    Text(String),
    /// Evaluated, and its value written unless it only sets a variable.
    Action(Pipeline),
    /// `if`
    If(Branch),
    /// `with`
    With(Branch),
    /// `range`
    Range(Branch),
}

/// A control structure.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) pipeline: Pipeline,
    pub(super) body: Vec<Node>,
    pub(super) otherwise: Vec<Node>,
}

/// Commands, each with the value of the one before as its last argument.
#[derive(Debug)]
pub(super) struct Pipeline {
    /// Variables that get the value; two of them for `range $index, $element :=`.
    pub(super) variables: Vec<String>,
    /// `=` instead of `:=`.
    pub(super) assigns: bool,
    pub(super) commands: Vec<Command>,
}

/// An operand and what it is applied to.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) operand: Operand,
    pub(super) arguments: Vec<Operand>,
}

/// Something that has a value.
#[derive(Debug)]
pub(super) enum Operand {
    Literal(Value),
    Function(Function),
    /// Something, and the fields to follow from it.
    Chain(Base, Vec<String>),
}

/// Where a chain of fields begins.
#[derive(Debug)]
pub(super) enum Base {
    Dot,
    Variable(String),
    Pipeline(Box<Pipeline>),
}

/// How a list of nodes ended.
enum Terminator {
    End,
    Else(Vec<Token>),
    Eof,
}

/// Reads a template.
pub(super) fn parse(template: &str) -> Result<Vec<Node>, String> {
    let mut parser = Parser {
        pieces: lexer::split(template)?.into_iter(),
        // `$` is there from the start.
        variables: vec![String::new()],
        depth: 0,
    };
    match parser.nodes()? {
        (nodes, Terminator::Eof) => Ok(nodes),
        (_, Terminator::End) => Err("unexpected {{end}}".to_owned()),
        (_, Terminator::Else(_)) => Err("unexpected {{else}}".to_owned()),
    }
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
    variables: Vec<String>,
    depth: usize,
}

impl Parser {
    fn nodes(&mut self) -> Result<(Vec<Node>, Terminator), String> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let tokens = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(tokens) => tokens,
            };
            match tokens.first() {
                Some(Token::Word(word)) if word == "end" && tokens.len() == 1 => {
                    return Ok((nodes, Terminator::End));
                }
                Some(Token::Word(word)) if word == "else" => {
                    return Ok((nodes, Terminator::Else(tokens[1..].to_vec())));
                }
                _ => nodes.push(self.action(&tokens)?),
            }
        }
        Ok((nodes, Terminator::Eof))
    }

    fn action(&mut self, tokens: &[Token]) -> Result<Node, String> {
        if let [Token::Word(word), rest @ ..] = tokens {
            let control: Option<fn(Branch) -> Node> = match word.as_str() {
                "if" => Some(Node::If),
                "with" => Some(Node::With),
                "range" => Some(Node::Range),
                _ => None,
            };
            if let Some(control) = control {
                return self.branch(control, word, rest).map(control);
            }
        }
        self.pipeline(tokens).map(Node::Action)
    }

    fn branch(
        &mut self,
        control: fn(Branch) -> Node,
        word: &str,
        tokens: &[Token],
    ) -> Result<Branch, String> {
        self.deeper()?;
        let outer = self.variables.len();
        let pipeline = self.pipeline(tokens)?;
        let (body, terminator) = self.nodes()?;
        let otherwise = match terminator {
            Terminator::End => Vec::new(),
            Terminator::Else(tokens) if tokens.is_empty() => match self.nodes()? {
                (nodes, Terminator::End) => nodes,
                (_, Terminator::Else(_)) => return Err("expected end; found {{else}}".to_owned()),
                (_, Terminator::Eof) => return Err("unexpected EOF".to_owned()),
            },
            Terminator::Else(tokens) => match &tokens[..] {
                // `{{else if x}}` shares the `{{end}}` of the `if` it belongs to.
                [Token::Word(next), rest @ ..] if next == word && word != "range" => {
                    vec![control(self.branch(control, word, rest)?)]
                }
                _ => return Err(format!("unexpected tokens after {{{{else}}}} of {word}")),
            },
            Terminator::Eof => return Err("unexpected EOF".to_owned()),
        };
        self.variables.truncate(outer);
        self.depth -= 1;
        Ok(Branch {
            pipeline,
            body,
            otherwise,
        })
    }

    fn pipeline(&mut self, tokens: &[Token]) -> Result<Pipeline, String> {
        let (variables, assigns, tokens) = match tokens {
            [Token::Variable(one), Token::Declare, rest @ ..] => (vec![one.clone()], false, rest),
            [Token::Variable(one), Token::Assign, rest @ ..] => (vec![one.clone()], true, rest),
            [
                Token::Variable(one),
                Token::Comma,
                Token::Variable(two),
                Token::Declare,
                rest @ ..,
            ] => (vec![one.clone(), two.clone()], false, rest),
            _ => (Vec::new(), false, tokens),
        };
        let mut input = Input { tokens };
        let commands = self.commands(&mut input)?;
        match input.tokens.first() {
            None => {}
            Some(Token::Close) => return Err("unexpected right paren".to_owned()),
            Some(token) => return Err(format!("unexpected {token:?} in command")),
        }
        for variable in &variables {
            if assigns {
                self.defined(variable)?;
            } else {
                self.variables.push(variable.clone());
            }
        }
        Ok(Pipeline {
            variables,
            assigns,
            commands,
        })
    }

    fn commands(&mut self, input: &mut Input<'_>) -> Result<Vec<Command>, String> {
        let mut commands = Vec::new();
        loop {
            let mut operands = Vec::new();
            while let Some(operand) = self.operand(input)? {
                operands.push(operand);
            }
            if operands.is_empty() {
                return Err("missing value for command".to_owned());
            }
            let operand = operands.remove(0);
            commands.push(Command {
                operand,
                arguments: operands,
            });
            if input.tokens.first() != Some(&Token::Pipe) {
                return Ok(commands);
            }
            input.tokens = &input.tokens[1..];
        }
    }

    fn operand(&mut self, input: &mut Input<'_>) -> Result<Option<Operand>, String> {
        let Some((token, rest)) = input.tokens.split_first() else {
            return Ok(None);
        };
        let operand = match token {
            Token::Pipe | Token::Close => return Ok(None),
            Token::Dot => Operand::Chain(Base::Dot, Vec::new()),
            Token::Field { name, .. } => {
                input.tokens = rest;
                let mut fields = vec![name.clone()];
                fields.extend(input.fields());
                return Ok(Some(Operand::Chain(Base::Dot, fields)));
            }
            Token::Variable(name) => {
                self.defined(name)?;
                input.tokens = rest;
                return Ok(Some(Operand::Chain(Base::Variable(name.clone()), input.fields())));
            }
            Token::Literal(value) => Operand::Literal(value.clone()),
            Token::Word(word) => word_operand(word)?,
            Token::Open => {
                input.tokens = rest;
                self.deeper()?;
                let commands = self.commands(input)?;
                self.depth -= 1;
                let Some((Token::Close, after)) = input.tokens.split_first() else {
                    return Err("unclosed left paren".to_owned());
                };
                input.tokens = after;
                let pipeline = Pipeline {
                    variables: Vec::new(),
                    assigns: false,
                    commands,
                };
                return Ok(Some(Operand::Chain(
                    Base::Pipeline(Box::new(pipeline)),
                    input.fields(),
                )));
            }
            Token::Declare | Token::Assign | Token::Comma => {
                return Err(format!("unexpected {token:?} in operand"));
            }
        };
        input.tokens = rest;
        Ok(Some(operand))
    }

    fn defined(&self, variable: &str) -> Result<(), String> {
        if self.variables.iter().any(|known| known == variable) {
            return Ok(());
        }
        Err(format!("undefined variable \"${variable}\""))
    }

    fn deeper(&mut self) -> Result<(), String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("nested too deep: more than {MAX_DEPTH} levels"));
        }
        Ok(())
    }
}

struct Input<'a> {
    tokens: &'a [Token],
}

impl Input<'_> {
    /// The fields that follow without a space.
    fn fields(&mut self) -> Vec<String> {
        let mut fields = Vec::new();
        while let Some((
            Token::Field {
                name,
                continues: true,
            },
            rest,
        )) = self.tokens.split_first()
        {
            fields.push(name.clone());
            self.tokens = rest;
        }
        fields
    }
}

fn word_operand(word: &str) -> Result<Operand, String> {
    match word {
        "true" => Ok(Operand::Literal(true.into())),
        "false" => Ok(Operand::Literal(false.into())),
        "nil" => Ok(Operand::Literal(Value::Null)),
        _ => functions::find(word)
            .map(Operand::Function)
            .ok_or_else(|| format!("function {word:?} not defined")),
    }
}
