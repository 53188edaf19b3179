//! Templates that mean harm: each ends with a typed error, soon, on a small stack.

use oprel_chat::{ChatTemplate, Error, LocalTime, RenderInput, Result, SpecialTokens};

/// Half of what a thread gets by default.
const STACK: usize = 1 << 20;

fn render(template: String) -> Result<String> {
    let run = move || {
        let template = ChatTemplate::compile(&template, SpecialTokens::default())?;
        template.render(&RenderInput::new(&[], LocalTime::utc(0)))
    };
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(run).unwrap();
    thread.join().expect("panicked")
}

fn fails(template: impl Into<String>) -> Error {
    render(template.into()).expect_err("rendered")
}

#[test]
fn nested_brackets_are_refused() {
    for (open, close) in [("(", ")"), ("[", "]"), ("{1:", "}"), ("f(", ")"), ("x[", "]")] {
        for n in [100, 900, 5000] {
            let source = format!("{{{{ {}1{} }}}}", open.repeat(n), close.repeat(n));
            let error = fails(source);
            assert!(
                matches!(
                    error,
                    Error::Syntax { .. } | Error::TooDeep { .. } | Error::Failed { .. }
                ),
                "{open} {n}: {error}"
            );
        }
    }
}

#[test]
fn nested_blocks_are_refused_by_the_parser() {
    let source = format!("{}{}", "{% if 1 %}".repeat(3000), "{% endif %}".repeat(3000));
    assert!(matches!(fails(source), Error::Syntax { .. }));
    let source = format!("{}{}", "{% for x in y %}".repeat(3000), "{% endfor %}".repeat(3000));
    assert!(matches!(fails(source), Error::Syntax { .. }));
}

#[test]
fn long_chains_end_in_an_error_or_a_text() {
    for link in [".a", "|upper", "['a']", "()", " if 1", "[1:]"] {
        let error = fails(format!("{{{{ x{} }}}}", link.repeat(240)));
        assert!(matches!(error, Error::TooDeep { .. } | Error::Syntax { .. }), "{link}: {error}");
    }
    for prefix in ["not ", "- "] {
        let error = fails(format!("{{{{ {} x }}}}", prefix.repeat(990)));
        assert!(matches!(error, Error::TooDeep { .. } | Error::Syntax { .. }), "{prefix}: {error}");
    }
    let sum = format!("{{{{ 0{} }}}}", "+1".repeat(450));
    assert_eq!(render(sum).unwrap(), "450");
    let elifs = format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(100));
    assert_eq!(render(elifs).unwrap(), "");
}

#[test]
fn a_macro_that_calls_itself_for_ever_is_stopped() {
    let source = "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}";
    assert!(matches!(fails(source), Error::TooDeep { .. }));
    let source = "{% for x in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}";
    assert!(matches!(fails(source), Error::TooDeep { .. }));
}

#[test]
fn a_loop_that_takes_for_ever_is_stopped() {
    let source = "{% for a in range(99999) %}{% for b in range(99999) %}{% set x = a * b %}\
                  {% endfor %}{% endfor %}";
    assert!(matches!(fails(source), Error::OutOfFuel { .. }));
    assert!(matches!(fails("{{ range(100001) }}"), Error::Failed { .. }));
}

#[test]
fn texts_that_double_are_stopped() {
    let grow = |body: &str| {
        format!(
            "{{% set n = namespace(x='aaaaaaaa') %}}{{% for i in range(99) %}}{body}{{% endfor %}}"
        )
    };
    for body in [
        "{% set n.x = n.x ~ n.x %}",
        "{% set n.x = n.x + n.x %}",
        "{% set n.x = n.x * 9 %}",
        "{% set n.x = n.x.replace('a', 'aa') %}",
        "{% set n.x = n.x|replace('a', 'aa') %}",
        "{% set n.x = [n.x, n.x]|join %}",
        "{% set n.x = n.x.join([n.x, n.x]) %}",
        "{% set n.x = [n.x, n.x]|tojson %}",
        "{% set n.x = [n.x, n.x]|string %}",
        "{% set n.x = '%s%s' % (n.x, n.x) %}",
        "{% set n.x = '{0}{0}'.format(n.x) %}",
        "{% set n.x %}{{ n.x }}{{ n.x }}{% endset %}",
        "{{ n.x }}{% set n.x = n.x ~ n.x %}",
    ] {
        let error = fails(grow(body));
        assert!(
            matches!(error, Error::OutputTooLong { .. } | Error::OutOfFuel { .. }),
            "{body}: {error}"
        );
    }
}

#[test]
fn widths_beyond_all_reason_are_refused() {
    for expr in [
        "'a'.center(10**12)",
        "'a'.ljust(10**30)",
        "'a'.zfill(10**12)",
        "'a'|center(10**12)",
        "'a\nb'|indent(10**12)",
        "'\t'.expandtabs(10**12)",
        "'%1000000000000d' % 1",
        "'%.1000000000000f' % 1",
        "'{:>1000000000000}'.format(1)",
        "[1]|tojson(indent=10**12)",
        "[1]|batch(10**12, 0)|list",
        "[1]|slice(10**12)|list",
        "[1] * 10**12",
        "'ab' * 10**12",
        "10 ** 10 ** 10",
        "2 ** 99999999999",
    ] {
        let error = fails(format!("{{{{ {expr} }}}}"));
        assert!(
            matches!(error, Error::OutputTooLong { .. } | Error::Failed { .. }),
            "{expr}: {error}"
        );
    }
}

#[test]
fn values_that_nest_or_share_without_end_are_refused() {
    let grow = |body: &str, last: &str| {
        format!(
            "{{% set n = namespace(x=[1]) %}}{{% for i in range(999) %}}{body}{{% endfor %}}{last}"
        )
    };
    for body in [
        "{% set n.x = [n.x] %}",
        "{% set n.x = {'a': n.x} %}",
        "{% set n.x = (n.x,) %}",
        "{% set n.x = [n.x, n.x] %}",
        "{% set n.x = [n.x]|batch(1)|list %}",
        "{% set n.x = [n.x, n.x].count %}",
        "{% set n.x = dict(a=n.x, b=n.x) %}",
        "{% for j in [n.x] %}{% set n.x = loop %}{% endfor %}",
    ] {
        let error = fails(grow(body, "{{ n.x == n.x }}{{ n.x }}"));
        assert!(
            matches!(
                error,
                Error::TooDeep { .. } | Error::OutputTooLong { .. } | Error::OutOfFuel { .. }
            ),
            "{body}: {error}"
        );
    }
}

#[test]
fn a_namespace_in_itself_is_neither_written_nor_leaked_without_end() {
    let source = "{% set n = namespace() %}{% set n.n = n %}{{ n }}";
    assert!(matches!(fails(source), Error::TooDeep { .. }));
    let chain = "{% set n = namespace() %}{% for i in range(20000) %}\
                 {% set m = namespace(n=n.n) %}{% set n.n = m %}{% endfor %}done";
    assert_eq!(render(chain.into()).unwrap(), "done");
}

#[test]
fn slices_of_slices_with_huge_steps_stay_ranges() {
    let huge = "9".repeat(30);
    let source = format!("{{{{ range(9)[::{huge}][::{huge}][::-{huge}][::{huge}]|list }}}}");
    assert_eq!(render(source).unwrap(), "[0]");
    let source = format!("{{{{ 'abc'[-{huge}:{huge}:{huge}] }}}}{{{{ [1, 2][::-{huge}] }}}}");
    assert_eq!(render(source).unwrap(), "a[2]");
}

#[test]
fn comparing_everything_with_everything_is_stopped() {
    let source =
        "{% set x = range(99999)|list %}{% for i in range(999) %}{{ -1 in x }}{% endfor %}";
    assert!(matches!(fails(source), Error::OutOfFuel { .. }));
    assert!(matches!(fails("{{ range(99999)|unique|list|length }}"), Error::OutOfFuel { .. }));
}

#[test]
fn broken_templates_are_refused_with_their_line() {
    for source in
        ["\n{{ x", "\n{% if %}{% endif %}", "\n{% frobnicate %}", "\n{% endif %}", "\n{# x"]
    {
        match fails(source) {
            Error::Syntax { line, .. } => assert!(line <= 2, "{source}: line {line}"),
            error => panic!("{source}: {error}"),
        }
    }
    assert!(matches!(fails("{% include 'x' %}"), Error::Unsupported { .. }));
    assert!(matches!(fails("\n\n{{ x.y }}"), Error::Failed { line: 3, .. }));
}

#[test]
fn every_truncation_of_a_template_gives_a_text_or_an_error() {
    let source = "{% macro m(a, b='x') %}{{ a|tojson(indent=2) }}{% endmacro %}{% for k, v in \
                  {'a': [1, 2.5, none]}.items() if k %}{{ m(v[0:1], b=k) ~ '\\n' -}}{% else %}\
                  {# c #}{% endfor %}{% set n = namespace(x=1) %}{% raw %}{{{% endraw %}";
    for end in 0..=source.len() {
        let _ = render(source[..end].to_owned());
    }
}
