//! What the caller should know before relying on the results of a batch.

use super::assign::WithoutId;
use super::result_files::Unread;

/// What was odd about the results of a job.
#[derive(Debug)]
pub struct Caveats {
    /// Files that could not be read, or not to their end.
    pub unread: Vec<Unread>,
    /// The job has ended, but names no results, although it counts some.
    pub shows_no_results: bool,
    /// Rows with ids that this batch never sent.
    pub unknown_ids: u64,
    pub without_id: WithoutId,
    /// Lines of whole files that are no result rows.
    pub other_lines: u64,
    /// The rows that were sent could not be read, and their ids do not tell their order.
    pub order_is_guessed: bool,
    /// A count of rows that cannot be true.
    pub false_count: Option<u64>,
}

impl Default for Caveats {
    fn default() -> Self {
        Self {
            unread: Vec::new(),
            shows_no_results: false,
            unknown_ids: 0,
            without_id: WithoutId::NoSuchRow,
            other_lines: 0,
            order_is_guessed: false,
            false_count: None,
        }
    }
}

impl Caveats {
    /// Why an input may have no row here although the provider has its answer; None: nothing says so.
    pub fn why_missing(&self) -> Option<String> {
        let mut reasons: Vec<String> =
            self.unread.iter().map(|file| format!("the {} could not be read ({})", file.name, file.reason)).collect();
        if self.shows_no_results {
            reasons.push("the job names no file for rows that it counts as done".into());
        }
        if let WithoutId::Unassigned(rows) = self.without_id {
            reasons.push(format!("{rows} result rows have no id, and it is not known whether one of them answers it"));
        }
        if self.other_lines > 0 {
            reasons.push(format!("{} lines of the results are not result rows", self.other_lines));
        }
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    pub fn warnings(&self, batch_id: &str) -> Vec<String> {
        let mut warnings: Vec<String> = Vec::new();
        for file in &self.unread {
            warnings.push(format!(
                "the {} could not be read ({}); inputs without a row count as missing. Call results() or items() again to \
                 fetch it again",
                file.name, file.reason
            ));
        }
        if self.shows_no_results {
            warnings.push(
                "the job names no file for rows that it counts as done; inputs without a row count as missing".into(),
            );
        }
        if self.unknown_ids > 0 {
            warnings
                .push(format!("{} rows of results have ids that it never sent; they are left out", self.unknown_ids));
        }
        let unassigned = if let WithoutId::Unassigned(rows) = self.without_id { rows } else { 0 };
        if unassigned + self.other_lines > 0 {
            warnings.push(format!(
                "{} rows of results are no JSON or have no id; the inputs that they answer count as missing",
                unassigned + self.other_lines
            ));
        }
        match self.without_id {
            WithoutId::InOrder(rows) => warnings.push(format!(
                "none of the {rows} result rows has an id; as they are as many as the inputs, they are taken in their order. \
                 Compare some answers with their inputs before you rely on it"
            )),
            WithoutId::Only(index) => warnings.push(format!(
                "one result row has no id; it is taken for the answer to input {index}, the only one without a row"
            )),
            WithoutId::NoSuchRow | WithoutId::Unassigned(_) => {}
        }
        if let Some(count) = self.false_count {
            warnings.push(format!(
                "the provider counts {count} rows, which cannot be true; only the inputs that its result rows tell of are \
                 listed"
            ));
        }
        if self.order_is_guessed {
            warnings.push(
                "the provider does not give back the rows that were sent, so the results are in the natural order of their \
                 custom ids"
                    .into(),
            );
        }
        warnings.into_iter().map(|warning| format!("batch {batch_id}: {warning}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_oddity_is_a_warning_and_what_can_hide_an_answer_is_a_reason() {
        assert_eq!((Caveats::default().warnings("b"), Caveats::default().why_missing()), (Vec::new(), None));
        let unread =
            vec![Unread { name: "error file 'f'".into(), reason: "openai: gone (HTTP 410)".into(), is_blank: false }];
        let caveats = Caveats { unread, without_id: WithoutId::Unassigned(2), other_lines: 3, ..Caveats::default() };
        let reason = "the error file 'f' could not be read (openai: gone (HTTP 410)); 2 result rows have no id, and it is not \
                      known whether one of them answers it; 3 lines of the results are not result rows";
        assert_eq!(caveats.why_missing().unwrap(), reason);
        let warnings = caveats.warnings("b");
        assert_eq!(warnings.len(), 2);
        assert!(warnings[0].starts_with("batch b: the error file 'f' could not be read (openai: gone (HTTP 410));"));
        assert!(warnings[1].starts_with("batch b: 5 rows of results are no JSON or have no id"));
        // What hides no answer is no reason.
        let caveats = Caveats {
            unknown_ids: 1,
            without_id: WithoutId::Only(4),
            order_is_guessed: true,
            false_count: Some(u64::MAX),
            ..Caveats::default()
        };
        assert_eq!((caveats.warnings("b").len(), caveats.why_missing()), (4, None));
        assert!(caveats.warnings("b")[2].contains("18446744073709551615"));
    }
}
