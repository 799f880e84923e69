//! Chat templates as published models write them: trimmed blocks, Python's methods, dates, JSON, refusals.

use text_generation::{ChatError, ChatTemplates, Date, Message, Role};

fn message(role: Role, content: &str) -> Message {
    Message {
        role,
        content: content.into(),
    }
}

fn conversation() -> Vec<Message> {
    vec![
        message(Role::System, "Be brief."),
        message(Role::User, " Why? "),
        message(Role::Assistant, "<think>hm</think>\n\nSo."),
        message(Role::User, "Then?"),
    ]
}

fn written(template: &str) -> Result<String, ChatError> {
    let config = serde_json::json!({
        "chat_template": template, "bos_token": "<s>", "eos_token": {"content": "</s>"},
    });
    ChatTemplates::parse(&config.to_string(), None)?.prompt(
        &conversation(),
        None,
        Date(1_709_210_096),
    )
}

#[track_caller]
fn check(template: &str, expected: &str) {
    assert_eq!(written(template).as_deref(), Ok(expected), "{template}");
}

#[test]
fn blocks_are_trimmed_and_tokens_known() {
    check(
        "{{ bos_token }}{% for message in messages %}\n    {% if loop.first %}\n[{{ message['role'] }}]{{ eos_token }}\n    {% endif %}\n{% endfor %}\n",
        "<s>[system]</s>\n",
    );
    check(
        "{%- for m in messages if m.role == 'user' -%}\n{{ m.content | trim }}{{ '|' if not loop.last }}\n{%- endfor -%}",
        "Why?|Then?",
    );
    check("{% if add_generation_prompt %}go{% endif %}", "go");
    check("{{ tools is defined }} {{ x }}", "False ");
}

#[test]
fn pythons_methods_work() {
    check(
        "{{ messages[2].content.split('</think>')[-1].lstrip('\\n') }}",
        "So.",
    );
    check("{{ messages[1].content.strip().rstrip('?') }}", "Why");
    check(
        "{{ 'ab'.startswith('a') }} {{ 'ab'.endswith(('x', 'b')) }}",
        "True True",
    );
    check(
        "{{ 'a b'.title() }} {{ 'x'.upper() }} {{ 'aXbX'.replace('X', '-') }}",
        "A B X a-b-",
    );
    check(
        "{{ messages[0].get('role') }} {{ messages[0].get('tool', 'none') }}",
        "system none",
    );
    check(
        "{{ ', '.join(['a', 'b']) }} {{ 'abc'.find('c') }} {{ 'aa'.count('a') }}",
        "a, b 2 2",
    );
    check(
        "{% for k, v in messages[0].items() %}{{ k }}={{ v }};{% endfor %}",
        "role=system;content=Be brief.;",
    );
    check("{{ messages[::-1][0].content }}", "Then?");
}

#[test]
fn state_breaks_and_macros_work() {
    check(
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% if loop.index0 == 2 %}{% break %}{% endif %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
        "2",
    );
    check(
        "{% macro tag(x) %}<{{ x }}>{% endmacro %}{{ tag('a') }}",
        "<a>",
    );
}

#[test]
fn the_librarys_helpers_are_there() {
    check("{{ strftime_now('%d %b %Y') }}", "29 Feb 2024");
    check(
        "{{ {'a': [1, 'é<'], 'b': none} | tojson }}",
        "{\"a\": [1, \"é<\"], \"b\": null}",
    );
    check("{{ [1] | tojson(indent=2) }}", "[\n  1\n]");
    let refused = written("{{ raise_exception('roles must\nalternate') }}").unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the chat template: line 1: roles must alternate"
    );
}

#[test]
fn templates_that_do_not_end_or_are_none_are_refused_in_a_line() {
    let endless =
        "{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}";
    for template in [
        endless,
        "{% if %}",
        "{{ messages.nothing() }}",
        "{{ 'a'.split('') }}",
    ] {
        let error = written(template).unwrap_err().to_string();
        assert!(
            error.starts_with("the chat template: ") && error.lines().count() == 1,
            "{error}"
        );
    }
}

#[test]
fn one_of_several_is_chosen_by_name_and_a_file_of_its_own_counts() {
    let config = r#"{"chat_template": [{"name": "default", "template": "a"}, {"name": "b", "template": "b"}]}"#;
    let several = ChatTemplates::parse(config, None).unwrap();
    let go = |templates: &ChatTemplates, name| templates.prompt(&conversation(), name, Date(0));
    assert_eq!(go(&several, None).unwrap(), "a");
    assert_eq!(go(&several, Some("b")).unwrap(), "b");
    let unknown = go(&several, Some("c")).unwrap_err().to_string();
    assert_eq!(unknown, "no chat template `c`; there are: b, default");
    let apart = ChatTemplates::parse(config, Some("apart")).unwrap();
    assert_eq!(go(&apart, None).unwrap(), "apart");
    let none = ChatTemplates::parse("{}", None).unwrap();
    assert_eq!(go(&none, None), Err(ChatError::None));
    assert!(matches!(
        ChatTemplates::parse("[]", None),
        Err(ChatError::Config(_))
    ));
    assert!(matches!(
        ChatTemplates::parse(r#"{"chat_template": 3}"#, None),
        Err(ChatError::Config(_))
    ));
}
