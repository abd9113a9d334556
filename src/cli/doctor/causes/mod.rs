//! The causes that the doctor can name, in its own words. `docs/doctor.md` has the same table, and a
//! test compares the two.

pub(super) mod api;
pub(super) mod files;
pub(super) mod local;
pub(super) mod machine;
pub(super) mod redis;
pub(super) mod way;

use super::finding::Cause;

/// All causes, by link.
#[cfg_attr(not(test), expect(dead_code, reason = "the table in the documentation is made of it"))]
pub(super) fn all() -> impl Iterator<Item = &'static Cause> {
    let all = [local::ALL, files::ALL, machine::ALL, redis::ALL, way::ALL, api::ALL];
    all.into_iter().flatten().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, fmt::Write as _};

    #[test]
    fn each_cause_has_a_name_of_its_own_and_whole_sentences() {
        let mut ids = BTreeSet::new();
        for cause in all() {
            assert!(ids.insert(cause.id), "{} is the name of two causes", cause.id);
            let is_word = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(cause.id.chars().all(is_word), "{}", cause.id);
            for sentence in [cause.title, cause.why, cause.remedy] {
                assert!(sentence.ends_with('.'), "{}: {sentence}", cause.id);
                assert!(!sentence.contains(['|', '\n']), "{}: {sentence}", cause.id);
            }
        }
    }

    #[test]
    fn the_page_about_the_doctor_has_each_cause() {
        let mut causes: Vec<_> = all().collect();
        causes.sort_by_key(|cause| cause.link);
        let mut table = String::from(
            "| link | name | what is wrong | why it matters | what to do |\n|---|---|---|---|---|\n",
        );
        for cause in causes {
            let (link, severity) = (cause.link.name(), cause.severity.name());
            let name = format!("`{}`, {severity}", cause.id);
            writeln!(
                table,
                "| {link} | {name} | {} | {} | {} |",
                cause.title, cause.why, cause.remedy
            )
            .unwrap();
        }
        let page = include_str!("../../../../docs/doctor.md");
        assert!(page.contains(&table), "docs/doctor.md must have this table:\n{table}");
    }
}
