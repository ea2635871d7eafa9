//! A text that matches a regular expression, for the simple ones that schemas hold. Pure.
//!
//! Literals, escapes, classes, groups, alternatives and counts are understood; anchors and look-arounds are skipped. What is
//! more than that gives `None`, and the caller falls back to a plain echo.

use super::dice::Dice;

/// A text that matches `pattern`, varied by the dice.
pub fn sample(pattern: &str, dice: &mut Dice) -> Option<String> {
    let mut parser = Parser { rest: pattern.chars().collect(), at: 0 };
    let node = parser.alternatives(0)?;
    if parser.at < parser.rest.len() {
        return None;
    }
    let mut out = String::new();
    write(&node, dice, &mut out);
    Some(out)
}

enum Node {
    Any(Vec<Node>),
    All(Vec<Node>),
    Class(Vec<(char, char)>),
    Repeat(Box<Node>, u32, u32),
}

/// Deeper groups than any schema has; more would only be an attack on the stack.
const DEPTH_LIMIT: u32 = 50;
const COUNT_LIMIT: u32 = 10_000;

fn write(node: &Node, dice: &mut Dice, out: &mut String) {
    match node {
        Node::Any(nodes) => write(&nodes[dice.below(nodes.len())], dice, out),
        Node::All(nodes) => nodes.iter().for_each(|node| write(node, dice, out)),
        Node::Class(ranges) => out.push(pick(ranges, dice)),
        Node::Repeat(node, least, most) => {
            let count = least + dice.below((most - least) as usize + 1) as u32;
            (0..count).for_each(|_| write(node, dice, out));
        }
    }
}

fn pick(ranges: &[(char, char)], dice: &mut Dice) -> char {
    let (first, last) = ranges[dice.below(ranges.len())];
    let span = last as u32 - first as u32 + 1;
    char::from_u32(first as u32 + dice.below(span as usize) as u32).unwrap_or(first)
}

struct Parser {
    rest: Vec<char>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.rest.get(self.at).copied()
    }

    fn take(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += 1;
        Some(next)
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = text.chars().enumerate().all(|(i, c)| self.rest.get(self.at + i) == Some(&c));
        if found {
            self.at += text.chars().count();
        }
        found
    }

    fn alternatives(&mut self, depth: u32) -> Option<Node> {
        if depth > DEPTH_LIMIT {
            return None;
        }
        let mut branches = vec![self.sequence(depth)?];
        while self.eat("|") {
            branches.push(self.sequence(depth)?);
        }
        Some(Node::Any(branches))
    }

    fn sequence(&mut self, depth: u32) -> Option<Node> {
        let mut nodes = Vec::new();
        while let Some(next) = self.peek() {
            if next == '|' || next == ')' {
                break;
            }
            if let Some(node) = self.atom(depth)? {
                nodes.push(self.counted(node)?);
            }
        }
        Some(Node::All(nodes))
    }

    /// One thing that can be repeated; the inner `None` is an anchor or a look-around, which match no text.
    fn atom(&mut self, depth: u32) -> Option<Option<Node>> {
        let node = match self.take()? {
            '^' | '$' => return Some(None),
            '.' => Node::Class(vec![('a', 'z')]),
            '[' => Node::Class(self.class()?),
            '(' => {
                let silent = self.eat("?!") || self.eat("?=") || self.eat("?<!") || self.eat("?<=");
                if !silent && self.eat("?") && !self.eat(":") {
                    while !self.eat(">") {
                        self.take()?;
                    }
                }
                let node = self.alternatives(depth + 1)?;
                if !self.eat(")") {
                    return None;
                }
                if silent {
                    return Some(None);
                }
                node
            }
            '\\' => match self.take()? {
                'b' | 'B' | 'A' | 'Z' | 'z' => return Some(None),
                escaped => Node::Class(escape(escaped)?),
            },
            '*' | '+' | '?' | ')' => return None,
            literal => Node::Class(vec![(literal, literal)]),
        };
        Some(Some(node))
    }

    fn counted(&mut self, node: Node) -> Option<Node> {
        let (least, most) = match self.peek() {
            // Not zero: patterns such as \d*\.?\d* are followed by a rule that something must be there.
            Some('*') => (1, 2),
            Some('+') => (1, 3),
            Some('?') => (0, 1),
            Some('{') => return self.braces(node),
            _ => return Some(node),
        };
        self.at += 1;
        self.lazy();
        Some(Node::Repeat(Box::new(node), least, most))
    }

    fn braces(&mut self, node: Node) -> Option<Node> {
        let end = (self.at..self.rest.len()).find(|&at| self.rest[at] == '}')?;
        let text: String = self.rest[self.at + 1..end].iter().collect();
        self.at = end + 1;
        self.lazy();
        let (least, most) = match text.split_once(',') {
            None => (text.parse().ok()?, text.parse().ok()?),
            Some((least, "")) => (least.parse().ok()?, least.parse::<u32>().ok()?.saturating_add(2)),
            Some((least, most)) => {
                let least: u32 = least.parse().ok()?;
                (least, most.parse::<u32>().ok()?.min(least.saturating_add(2)))
            }
        };
        (least <= most && most <= COUNT_LIMIT).then(|| Node::Repeat(Box::new(node), least, most))
    }

    fn lazy(&mut self) {
        let _ = self.eat("?") || self.eat("+");
    }

    fn class(&mut self) -> Option<Vec<(char, char)>> {
        let negated = self.eat("^");
        let mut ranges = Vec::new();
        loop {
            let first = match self.take()? {
                ']' if !ranges.is_empty() => break,
                '\\' => {
                    let set = escape(self.take()?)?;
                    if set.len() > 1 || set[0].0 != set[0].1 {
                        ranges.extend(set);
                        continue;
                    }
                    set[0].0
                }
                '[' if self.peek() == Some(':') => return None,
                literal => literal,
            };
            let is_range = self.peek() == Some('-') && self.rest.get(self.at + 1).is_some_and(|next| *next != ']');
            if !is_range {
                ranges.push((first, first));
                continue;
            }
            self.at += 1;
            let last = match self.take()? {
                '\\' => escape(self.take()?)?[0].0,
                literal => literal,
            };
            if last < first {
                return None;
            }
            ranges.push((first, last));
        }
        if negated { outside(&ranges) } else { Some(ranges) }
    }
}

fn escape(escaped: char) -> Option<Vec<(char, char)>> {
    Some(match escaped {
        'd' => vec![('0', '9')],
        'w' => vec![('a', 'z'), ('A', 'Z'), ('0', '9')],
        's' => vec![(' ', ' ')],
        'D' | 'S' => vec![('a', 'z')],
        'W' => vec![('-', '-')],
        'n' => vec![('\n', '\n')],
        't' => vec![('\t', '\t')],
        'r' => vec![('\r', '\r')],
        letter if letter.is_alphanumeric() => return None,
        literal => vec![(literal, literal)],
    })
}

fn outside(ranges: &[(char, char)]) -> Option<Vec<(char, char)>> {
    let free: Vec<(char, char)> =
        ('!'..='~').filter(|c| !ranges.iter().any(|(first, last)| first <= c && c <= last)).map(|c| (c, c)).collect();
    (!free.is_empty()).then_some(free)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn samples_match() {
        let patterns = [
            r"^[A-Z]{3}-\d{4}$",
            r"^(red|green|blue)$",
            r"^[a-z0-9._%+-]+@[a-z]+\.(com|org)$",
            r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$",
            r"^\+?[1-9]\d{1,14}$",
            r"^[^\s@]{2,5}$",
            r"^(?:a|b(?P<n>c)){2}x*?$",
            r"^#[0-9a-fA-F]{6}$",
        ];
        for pattern in patterns {
            let validator = jsonschema::validator_for(&json!({"pattern": pattern})).unwrap();
            for seed in 0..50 {
                let text = sample(pattern, &mut Dice::new(seed)).unwrap();
                assert!(validator.is_valid(&json!(text)), "{pattern} does not match {text:?}");
            }
        }
        assert!(sample(r"\p{L}+", &mut Dice::new(1)).is_none());
        assert!(sample("(", &mut Dice::new(1)).is_none());
    }
}
