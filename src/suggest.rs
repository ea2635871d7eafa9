//! "Did you mean ...?": the nearest known name to a mistyped one.

/// The member of `known` that is nearest to `name`, if one is near enough to be what was meant.
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let name = name.to_lowercase();
    known
        .iter()
        .map(|candidate| (distance(&name, &candidate.to_lowercase()), *candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(name.len()) / 3)
        .map(|(_, candidate)| candidate)
}

/// One sentence for an unknown `name`: what it was, the nearest known one, and all that are known.
pub fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let hint = match nearest(name, known) {
        Some(near) => format!(" Did you mean '{near}'?"),
        None => String::new(),
    };
    format!("unknown {what} '{name}'.{hint} Known: {}.", known.join(", "))
}

/// Levenshtein's distance, by characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_the_name() {
        let known = ["temperature", "top_p", "max_tokens", "seed", "extra"];
        assert_eq!(nearest("temprature", &known), Some("temperature"));
        assert_eq!(nearest("maxTokens", &known), Some("max_tokens"));
        assert_eq!(nearest("presence_penalty", &known), None);
    }
}
