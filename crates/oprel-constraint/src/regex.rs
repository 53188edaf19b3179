//! Regular expressions: checked with positions before they are compiled.

use regex_syntax::ast::{Assertion, AssertionKind, Ast, parse};
use regex_syntax::hir::translate::Translator;
use regex_syntax::hir::{Hir, HirKind};

use crate::compile::{LONGEST_FORCED, MOST_LEVELS};
use crate::{Error, Result};

const WHAT: &str = "regular expression";

/// Longest expression, in bytes. What takes the compiler long grows faster than the expression.
const MOST_BYTES: usize = 16 << 10;

/// Most parts that may be missing. From every place in the text each of them is looked past.
pub(crate) const MOST_OPTIONAL: usize = 1000;

/// An expression that matches a text whole where `expression` does. Anchors at its ends say
/// nothing then and are taken out.
///
/// # Errors
/// [`Error::Regex`] with the position of what is wrong or cannot be kept.
pub(crate) fn whole(expression: &str) -> Result<String> {
    let mut anchors = check(expression)?;
    anchors.sort_unstable();
    let mut whole = expression.to_owned();
    for (start, end) in anchors.into_iter().rev() {
        whole.replace_range(start..end, "(?:)");
    }
    Ok(whole)
}

/// Checks an expression that is searched for in a text: JSON Schema's `pattern`.
pub(crate) fn searched(expression: &str) -> Result<()> {
    check(expression).map(|_| ())
}

/// The places of the anchors at the ends.
fn check(expression: &str) -> Result<Vec<(usize, usize)>> {
    let too_large = |found, unit, most| Error::TooLarge { what: WHAT, found, unit, most };
    if expression.len() > MOST_BYTES {
        return Err(too_large(expression.len(), "bytes", MOST_BYTES));
    }
    let wrong = |position, reason: String| Error::Regex { position, pointer: None, reason };
    let limit = MOST_LEVELS as u32;
    let mut parser = parse::ParserBuilder::new().nest_limit(limit).build();
    let ast =
        parser.parse(expression).map_err(|e| wrong(e.span().start.offset, e.kind().to_string()))?;
    let hir = Translator::new()
        .translate(expression, &ast)
        .map_err(|e| wrong(e.span().start.offset, e.kind().to_string()))?;
    let optional = n_optional(&hir);
    if optional > MOST_OPTIONAL {
        return Err(too_large(optional, "optional parts", MOST_OPTIONAL));
    }
    match hir.properties().minimum_len() {
        Some(shortest) if shortest > LONGEST_FORCED => {
            return Err(too_large(shortest, "bytes in its shortest text", LONGEST_FORCED));
        }
        Some(_) => {}
        None => return Err(wrong(0, "no text matches it".into())),
    }
    let mut anchors = Vec::new();
    anchors_in(&ast, true, true, &mut anchors)?;
    Ok(anchors)
}

/// What reading an expression costs: its characters, the parts that may be missing, and its
/// shortest text. Zeros for what is no expression.
pub(crate) fn cost(expression: &str) -> (usize, usize, usize) {
    let mut parser = regex_syntax::ParserBuilder::new().nest_limit(MOST_LEVELS as u32).build();
    parser.parse(expression).map_or((0, 0, 0), |hir| {
        (expression.len(), n_optional(&hir), hir.properties().minimum_len().unwrap_or(0))
    })
}

fn n_optional(hir: &Hir) -> usize {
    match hir.kind() {
        HirKind::Repetition(r) => usize::from(r.min == 0) + n_optional(&r.sub),
        HirKind::Capture(capture) => n_optional(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().map(n_optional).sum(),
        _ => 0,
    }
}

/// Collects anchors; those that are not at an end of the whole are refused.
fn anchors_in(ast: &Ast, first: bool, last: bool, out: &mut Vec<(usize, usize)>) -> Result<()> {
    match ast {
        Ast::Assertion(assertion) => anchor(assertion, first, last, out),
        Ast::Group(group) => anchors_in(&group.ast, first, last, out),
        Ast::Repetition(repetition) => anchors_in(&repetition.ast, false, false, out),
        Ast::Alternation(either) => {
            either.asts.iter().try_for_each(|ast| anchors_in(ast, first, last, out))
        }
        Ast::Concat(concat) => {
            let asts = &concat.asts;
            let begin = asts.iter().position(|ast| !is_nothing(ast)).unwrap_or(asts.len());
            let end = asts.iter().rposition(|ast| !is_nothing(ast)).unwrap_or(0);
            asts.iter().enumerate().try_for_each(|(i, ast)| {
                anchors_in(ast, first && i <= begin, last && i >= end, out)
            })
        }
        _ => Ok(()),
    }
}

/// Whether it takes no text.
fn is_nothing(ast: &Ast) -> bool {
    matches!(ast, Ast::Empty(_) | Ast::Flags(_) | Ast::Assertion(_))
}

fn anchor(
    assertion: &Assertion,
    first: bool,
    last: bool,
    out: &mut Vec<(usize, usize)>,
) -> Result<()> {
    use AssertionKind::{EndLine, EndText, StartLine, StartText};
    let fits = match assertion.kind {
        StartLine | StartText => first,
        EndLine | EndText => last,
        _ => false,
    };
    let span = assertion.span;
    if fits {
        out.push((span.start.offset, span.end.offset));
        return Ok(());
    }
    let reason = "anchors can stand at the ends only, and boundaries of words nowhere".to_owned();
    Err(Error::Regex { position: span.start.offset, pointer: None, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_at_the_ends_are_taken_out() {
        assert_eq!(whole("^a|b$").unwrap(), "(?:)a|b(?:)");
        assert_eq!(whole("(^a|b)c$").unwrap(), "((?:)a|b)c(?:)");
        assert_eq!(whole(r"\Aa\z").unwrap(), "(?:)a(?:)");
        assert_eq!(whole("^").unwrap(), "(?:)");
        assert_eq!(whole("[^$]").unwrap(), "[^$]");
    }

    #[test]
    fn what_cannot_be_kept_is_refused_with_its_place() {
        for (expression, at) in [
            ("a^b", 1),
            ("ab$c", 2),
            (r"a\bb", 1),
            ("(a", 0),
            ("a(?=b)", 1),
            (r"(a)\1", 3),
            ("(^a)*", 1),
            (r"\p{Nope}", 0),
            ("a{3,2}", 1),
        ] {
            match whole(expression) {
                Err(Error::Regex { position, .. }) => assert_eq!(position, at, "{expression}"),
                other => panic!("{expression}: {other:?}"),
            }
        }
        let deep = "(".repeat(100) + &")".repeat(100);
        assert!(matches!(whole(&deep), Err(Error::Regex { .. })));
    }
}
