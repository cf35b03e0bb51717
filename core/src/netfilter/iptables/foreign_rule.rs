//! Rules of other programs, as `iptables-save` prints them, split into words only.

/// Options with free text as their value, which is printed without quotes if it needs none.
const FREE_TEXT: [&str; 6] =
    ["--comment", "--log-prefix", "--nflog-prefix", "--string", "--name", "--hashlimit-name"];

/// The words of a rule without its free text, which could contain anything.
pub fn words(rule: &str) -> Vec<&str> {
    let mut words: Vec<&str> = Vec::new();
    let mut rest = rule.trim_start();
    while !rest.is_empty() {
        let end = if let Some(quoted) = rest.strip_prefix('"') {
            let mut escaped = false;
            let close = quoted.find(|character| {
                let closes = character == '"' && !escaped;
                escaped = character == '\\' && !escaped;
                closes
            });
            close.map_or(rest.len(), |close| close + 2)
        } else {
            rest.find(' ').unwrap_or(rest.len())
        };
        let (word, behind) = rest.split_at(end);
        let is_free = words.last().is_some_and(|option| FREE_TEXT.contains(option));
        match is_free || word.starts_with('"') {
            // The option is removed, too, because the text that follows it is left out.
            true => drop(words.pop_if(|_| is_free)),
            false => words.push(word),
        }
        rest = behind.trim_start();
    }
    words
}

/// The chain or target of a rule; `None` for a rule that only counts.
pub fn target(rule: &str) -> Option<&str> {
    let mut words = words(rule).into_iter();
    words.find(|word| matches!(*word, "-j" | "-g"))?;
    words.next()
}

/// The sets that a rule matches.
pub fn asked_sets(rule: &str) -> impl Iterator<Item = &str> {
    let words = words(rule);
    (1..words.len())
        .filter(|at| words[at - 1] == "--match-set")
        .map(|at| words[at])
        .collect::<Vec<_>>()
        .into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn free_text_leads_nowhere() {
        for (rule, leads) in [
            ("-s 10.0.0.0/8 -j THERE", Some("THERE")),
            ("-m comment --comment \"a -j b\" -g THERE", Some("THERE")),
            ("-m comment --comment \"say \\\" -j b\" -j THERE", Some("THERE")),
            ("-m comment --comment -j -j THERE", Some("THERE")),
            ("-j LOG --log-prefix -j", Some("LOG")),
            ("-m comment --comment \"-j NOWHERE\"", None),
            ("-m comment --comment -j", None),
            ("", None),
            ("-j", None),
        ] {
            assert_eq!(target(rule), leads, "{rule}");
        }
    }

    #[test]
    fn sets_are_those_that_a_match_names() {
        let rule = "-m set --match-set ONE src -m comment --comment \"--match-set NONE src\" -m set ! --match-set TWO dst,dst -j X";
        assert_eq!(asked_sets(rule).collect::<Vec<_>>(), ["ONE", "TWO"]);
        assert_eq!(asked_sets("-m set --match-set").count(), 0);
    }

    proptest! {
        #[test]
        fn no_rule_makes_the_reader_panic(text in "(\"|\\\\| |--comment |--match-set |é|/|-j |[0-9]){0,60}") {
            let _ = (words(&text), target(&text), asked_sets(&text).count());
        }
    }
}
