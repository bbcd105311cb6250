//! The parts of nft's language (nft(8)) that hull's tables are written in.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Write};
use std::net::IpAddr;

use ipnet::IpNet;

/// A family of addresses, which a set holds one of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    pub(super) const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub(super) fn of(address: &IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    pub(super) fn of_net(net: &IpNet) -> Self {
        Self::of(&net.addr())
    }

    /// What the names of sets end with.
    pub(super) fn digit(self) -> char {
        match self {
            Self::V4 => '4',
            Self::V6 => '6',
        }
    }

    /// The keyword of its header.
    pub(super) fn header(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }
}

/// What a set is looked up by, and what it holds.
pub(super) enum Kind<'a> {
    /// Single keys of a type.
    Keys(&'a str),
    /// Ranges of keys of a type.
    Ranges(&'a str),
    /// Keys of the type that an expression has.
    KeysLike(&'a str),
    /// Keys, each with a value; the types of both.
    Map(&'a str),
}

/// A set or map with a name. Its elements are sorted, and none of them is there twice.
pub(super) struct Set<'a> {
    name: String,
    kind: Kind<'a>,
    elements: BTreeSet<String>,
}

impl<'a> Set<'a> {
    pub(super) fn new(
        name: impl Into<String>,
        kind: Kind<'a>,
        elements: impl IntoIterator<Item = String>,
    ) -> Self {
        Self {
            name: name.into(),
            kind,
            elements: elements.into_iter().collect(),
        }
    }
}

impl Display for Set<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match self.kind {
            Kind::Keys(kind) => write!(to, "  set {name} {{\n    type {kind}\n")?,
            Kind::Ranges(kind) => write!(to, "  set {name} {{\n    type {kind}\n    flags interval\n")?,
            Kind::KeysLike(expression) => write!(to, "  set {name} {{\n    typeof {expression}\n")?,
            Kind::Map(kind) => write!(to, "  map {name} {{\n    type {kind}\n")?,
        }
        let mut separator = "    elements = {\n      ";
        for element in &self.elements {
            write!(to, "{separator}{element}")?;
            separator = ",\n      ";
        }
        if !self.elements.is_empty() {
            to.write_str("\n    }\n")?;
        }
        to.write_str("  }\n")
    }
}

/// A chain with a name: a rule a line.
pub(super) struct Chain {
    text: String,
}

impl Chain {
    /// Rules that another chain sends packets to.
    pub(super) fn new(name: &str, rules: impl AsRef<str>) -> Self {
        let mut chain = Self {
            text: format!("  chain {name} {{\n"),
        };
        chain.push(rules.as_ref());
        chain
    }

    /// Rules that the kernel sends packets to; those that come to their end go on.
    pub(super) fn at_hook(name: &str, hook: &str, rules: impl AsRef<str>) -> Self {
        let mut chain = Self::new(name, format!("type {hook}; policy accept;"));
        chain.push(rules.as_ref());
        chain
    }

    fn push(&mut self, rules: &str) {
        for rule in rules.lines().map(str::trim).filter(|rule| !rule.is_empty()) {
            self.text.push_str("    ");
            self.text.push_str(rule);
            self.text.push('\n');
        }
    }
}

impl Display for Chain {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(to, "{}  }}", self.text)
    }
}

/// What removes a table that may be there: the first line makes one where there is none.
pub(super) fn without_table(to: &mut String, table: &str) {
    for action in ["add", "delete"] {
        push(to, format_args!("{action} table {table}\n"));
    }
}

/// A table in place of the one that may be there.
pub(super) fn table(to: &mut String, table: &str, sets: &[Set<'_>], chains: &[Chain]) {
    without_table(to, table);
    push(to, format_args!("table {table} {{\n"));
    sets.iter().for_each(|set| push(to, format_args!("{set}")));
    chains.iter().for_each(|chain| push(to, format_args!("{chain}")));
    push(to, format_args!("}}\n"));
}

fn push(to: &mut String, text: fmt::Arguments<'_>) {
    // A string takes all text.
    let _ = to.write_fmt(text);
}

/// An interface in an element: names of interfaces are quoted there.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

/// A hardware address.
pub(super) fn mac([a, b, c, d, e, f]: [u8; 6]) -> String {
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}
