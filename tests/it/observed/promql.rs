//! As much of Prometheus' languages as tells which metric and label names stand in a text. promtool checks the rest.

use std::collections::BTreeSet;

/// A metric in an expression, with the labels that are asked of it.
#[derive(Debug)]
pub struct Use {
    /// The series' name.
    pub name: String,
    /// Labels in its braces, and those by which the expression around it groups.
    pub labels: BTreeSet<String>,
}

/// Words that are neither a metric nor a label. One that is not here is taken for a metric, and must be one.
const WORDS: [&str; 17] = [
    "sum",
    "min",
    "max",
    "count",
    "rate",
    "increase",
    "absent",
    "time",
    "vector",
    "histogram_quantile",
    "by",
    "on",
    "or",
    "without",
    "ignoring",
    "group_left",
    "Inf",
];

/// Words before a list of labels in parentheses.
const LISTS: [&str; 5] = ["by", "on", "without", "ignoring", "group_left"];

/// Every metric in `expression`. Each grouping is taken to be about all of them but those behind an `and`, whose labels are
/// not in the result.
pub fn uses(expression: &str) -> Vec<Use> {
    let mut found: Vec<Use> = Vec::new();
    let mut grouped = BTreeSet::new();
    // How many metrics stand before the first `and`.
    let mut in_result = None;
    let (mut in_braces, mut in_list, mut last) = (false, false, String::new());
    for token in tokens(expression) {
        match token.as_str() {
            "{" => in_braces = true,
            "}" => in_braces = false,
            "(" if LISTS.contains(&last.as_str()) => in_list = true,
            ")" if in_list => in_list = false,
            word if !word.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') => {}
            word if in_braces => {
                found
                    .last_mut()
                    .expect("a metric before the braces")
                    .labels
                    .insert(word.to_owned());
            }
            word if in_list => {
                grouped.insert(word.to_owned());
            }
            "and" => in_result = in_result.or(Some(found.len())),
            word if WORDS.contains(&word) => {}
            word => found.push(Use {
                name: word.to_owned(),
                labels: BTreeSet::new(),
            }),
        }
        last = token;
    }
    let in_result = in_result.unwrap_or(found.len());
    for use_ in found.iter_mut().take(in_result) {
        use_.labels.extend(grouped.iter().cloned());
    }
    found
}

/// Words and signs; strings, numbers and durations are left out.
fn tokens(expression: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = expression.chars().peekable();
    while let Some(first) = rest.next() {
        if first == '"' {
            // None of ours has an escape in it.
            rest.by_ref().find(|&end| end == '"').expect("the string's end");
        } else if first.is_ascii_alphanumeric() || first == '_' || first == ':' {
            let mut word = String::from(first);
            while let Some(next) = rest.next_if(|next| next.is_ascii_alphanumeric() || *next == '_' || *next == ':') {
                word.push(next);
            }
            tokens.push(word);
        } else if "{}()".contains(first) {
            tokens.push(first.to_string());
        }
    }
    tokens
}

/// The name and labels of a line of a scrape.
pub fn sample(line: &str) -> (String, BTreeSet<String>) {
    let Some((name, rest)) = line.split_once('{') else {
        return (line.split(' ').next().expect("a name").to_owned(), BTreeSet::new());
    };
    let mut labels = BTreeSet::new();
    let (mut label, mut in_value, mut escaped) = (String::new(), false, false);
    for character in rest.chars() {
        match (in_value, character) {
            (true, '\\') if !escaped => escaped = true,
            (true, '"') if !escaped => in_value = false,
            (true, _) => escaped = false,
            (false, '"') => {
                labels.insert(std::mem::take(&mut label));
                in_value = true;
            }
            (false, '}') => break,
            (false, '=' | ',') => {}
            (false, other) => label.push(other),
        }
    }
    (name.to_owned(), labels)
}

/// Every `expr` of a rule file.
pub fn expressions(rules: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    // How far the lines of a block are indented at least.
    let mut block = None;
    for line in rules.lines() {
        let indent = line.len() - line.trim_start().len();
        if let Some(least) = block
            && indent > least
        {
            let expression = found.last_mut().expect("its expression");
            expression.push_str(line);
            expression.push('\n');
            continue;
        }
        block = None;
        if let Some(expression) = line.trim_start().strip_prefix("expr:") {
            let expression = expression.trim();
            found.push(String::new());
            if expression == "|" {
                block = Some(indent);
            } else {
                found.last_mut().expect("just pushed").push_str(expression);
            }
        }
    }
    found
}

/// The series that a rule file records: names, and labels, which stand before the first colon.
pub fn records(rules: &str) -> Vec<(String, BTreeSet<String>)> {
    let names = rules
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("- record: "));
    let labels = |name: &str| {
        let (labels, _) = name.split_once(':').expect("level:metric:operations");
        labels.split('_').map(str::to_owned).collect()
    };
    names.map(|name| (name.to_owned(), labels(name))).collect()
}
