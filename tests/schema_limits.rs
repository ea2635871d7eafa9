//! The providers' limits on the size of a schema: what is at a limit passes, one more is refused, and where it stands is said.

use llmbackend::schema::{Compiled, Dialect, SchemaError, compile, compile_loosely};
use serde_json::{Map, Value, json};

fn object(properties: Map<String, Value>) -> Value {
    let required: Vec<&String> = properties.keys().collect();
    json!({"required": required, "type": "object", "properties": properties, "additionalProperties": false})
}

fn properties(count: usize, schema: &Value) -> Map<String, Value> {
    (0..count).map(|i| (format!("p{i}"), schema.clone())).collect()
}

fn compiled(schema: &Value, dialect: Dialect) -> Compiled {
    compile(schema, dialect).unwrap_or_else(|error| panic!("{error}"))
}

fn refusal(schema: &Value, dialect: Dialect) -> Option<SchemaError> {
    compiled(schema, dialect).over_limit
}

fn assert_refused(schema: &Value, dialect: Dialect, path: &str, words: &str) {
    let error = refusal(schema, dialect).unwrap_or_else(|| panic!("{words}: not refused"));
    assert_eq!(error.path, path);
    assert!(error.message.contains(words), "{error}");
}

/// `levels` objects inside each other.
fn nested(levels: usize) -> Value {
    let leaf = json!({"type": "string"});
    (0..levels).fold(leaf, |inner, _| object(Map::from_iter([("in".to_owned(), inner)])))
}

#[test]
fn openai_takes_ten_levels() {
    assert_eq!(refusal(&nested(10), Dialect::OpenAi), None);
    assert_refused(&nested(11), Dialect::OpenAi, &"/properties/in".repeat(10), "10 levels");
    let mut empty = json!({"type": "object", "properties": {}, "required": [], "additionalProperties": false});
    for _ in 0..10 {
        empty = object(Map::from_iter([("in".to_owned(), empty)]));
    }
    assert_refused(&empty, Dialect::OpenAi, &"/properties/in".repeat(10), "10 levels");
    let lists =
        |levels: usize| (0..levels).fold(json!({"type": "integer"}), |it, _| json!({"type": "array", "items": it}));
    // Ours around it is a level too.
    assert_eq!(refusal(&lists(9), Dialect::OpenAi), None);
    assert_refused(&lists(10), Dialect::OpenAi, &"/items".repeat(9), "10 levels");
    // A choice is no level, and neither is what a definition is referred to from.
    let choice = json!({"anyOf": [nested(9), {"type": "null"}]});
    assert_eq!(refusal(&object(properties(1, &choice)), Dialect::OpenAi), None);
    let mut by_name = object(properties(1, &json!({"$ref": "#/$defs/Deep"})));
    by_name["$defs"] = json!({"Deep": nested(10)});
    assert_eq!(refusal(&by_name, Dialect::OpenAi), None);
    by_name["$defs"] = json!({"Deep": nested(11)});
    assert_refused(&by_name, Dialect::OpenAi, &format!("/$defs/Deep{}", "/properties/in".repeat(10)), "10 levels");
}

#[test]
fn openai_takes_five_thousand_properties_in_all() {
    let text = json!({"type": "string"});
    assert_eq!(refusal(&object(properties(5_000, &text)), Dialect::OpenAi), None);
    assert_refused(&object(properties(5_001, &text)), Dialect::OpenAi, "/properties/p5000", "5000 properties");
    // A definition counts once, however often it is referred to.
    let mut shared = object(properties(10, &json!({"$ref": "#/$defs/Big"})));
    shared["$defs"] = json!({"Big": object(properties(4_990, &text))});
    assert_eq!(refusal(&shared, Dialect::OpenAi), None);
    shared["$defs"] = json!({"Big": object(properties(4_991, &text))});
    let error = refusal(&shared, Dialect::OpenAi).expect("refused");
    assert!(error.path.starts_with("/$defs/Big/properties/") || error.path.starts_with("/properties/"), "{error}");
}

#[test]
fn what_is_too_large_only_when_inlined_is_sent_with_its_references() {
    let text = json!({"type": "string"});
    let mut described = object(
        (0..10)
            .map(|i| (format!("p{i}"), json!({"$ref": "#/$defs/Big", "description": format!("number {i}")})))
            .collect(),
    );
    described["$defs"] = json!({"Big": object(properties(600, &text))});
    let sent = compiled(&described, Dialect::OpenAi);
    assert_eq!((sent.over_limit, sent.strict), (None, true));
    assert_eq!(sent.schema["properties"]["p7"], json!({"anyOf": [{"$ref": "#/$defs/Big"}], "description": "number 7"}));
}

#[test]
fn openai_takes_a_thousand_enum_values_and_so_many_characters() {
    let numbers = |count: usize| json!({"enum": (0..count).collect::<Vec<_>>(), "type": "integer"});
    let two = |a: usize, b: usize| json!({"type": "object", "properties": {"a": numbers(a), "b": {"type": "array", "items": numbers(b)}}});
    assert_eq!(refusal(&two(600, 400), Dialect::OpenAi), None);
    assert_refused(&two(600, 401), Dialect::OpenAi, "/properties/b/items/enum", "1000 enum values");

    let words = |count: usize, length: usize| {
        let words: Vec<String> = (0..count).map(|i| format!("{i:é<length$}")).collect();
        object(Map::from_iter([("a".to_owned(), json!({"type": "string", "enum": words}))]))
    };
    // Characters, not bytes: 250 words may be of any length, 300 of 50 are the limit.
    assert_eq!(refusal(&words(250, 400), Dialect::OpenAi), None);
    assert_eq!(refusal(&words(300, 50), Dialect::OpenAi), None);
    assert_refused(
        &words(300, 51),
        Dialect::OpenAi,
        "/properties/a/enum",
        "15000 characters in one enum of 300 values",
    );
}

#[test]
fn openai_takes_so_many_characters_of_names_and_constants() {
    let constant = |length: usize| {
        object(Map::from_iter([("abc".to_owned(), json!({"type": "string", "const": "x".repeat(length)}))]))
    };
    assert_eq!(refusal(&constant(119_997), Dialect::OpenAi), None);
    assert_refused(&constant(119_998), Dialect::OpenAi, "/properties/abc/const", "120000 characters");
    let mut named = object(Map::from_iter([("n".repeat(60_000), json!({"type": "string"}))]));
    named["$defs"] = json!({"d".repeat(60_001): {"type": "string"}});
    let place = format!("/$defs/{}", "d".repeat(60_001));
    let error = refusal(&named, Dialect::OpenAi).expect("refused");
    assert!(error.path == place || error.path.starts_with("/properties/n"), "{:.40}", error.path);
    // Descriptions and titles are free.
    let described =
        json!({"type": "object", "description": "x".repeat(200_000), "properties": {"a": {"type": "string"}}});
    assert_eq!(refusal(&described, Dialect::OpenAi), None);
}

#[test]
fn what_is_not_strict_has_no_limits_of_strict_mode() {
    let loose = compile_loosely(&nested(30), Dialect::OpenAi).expect("compiled");
    assert_eq!((loose.over_limit, loose.strict), (None, false));
    let mut open = nested(30);
    open["properties"]["any"] = json!({});
    let sent = compiled(&open, Dialect::OpenAi);
    assert_eq!((sent.over_limit, sent.strict), (None, false));
}

#[test]
fn anthropic_takes_twenty_four_optional_properties() {
    let optional =
        |count: usize| json!({"type": "object", "properties": properties(count, &json!({"type": "string"}))});
    assert_eq!(refusal(&optional(24), Dialect::Anthropic), None);
    assert_refused(&optional(25), Dialect::Anthropic, "/properties/p24", "24 optional properties");
    // Over all objects, a definition once, and by the place in the caller's own schema.
    let list = json!({"definitions": {"Row": optional(24)}, "type": "array", "items": {"$ref": "#/definitions/Row"}});
    assert_eq!(refusal(&list, Dialect::Anthropic), None);
    let list = json!({"definitions": {"Row": optional(25)}, "type": "array", "items": {"$ref": "#/definitions/Row"}});
    assert_refused(&list, Dialect::Anthropic, "/definitions/Row/properties/p24", "24 optional properties");
    let inline = json!({"type": "array", "items": optional(25)});
    assert_refused(&inline, Dialect::Anthropic, "/items/properties/p24", "24 optional properties");
}

#[test]
fn anthropic_takes_sixteen_properties_of_union_types() {
    for union in [
        json!({"anyOf": [{"type": "string"}, {"type": "null"}]}),
        json!({"type": ["string", "null"]}),
        json!({"type": "array", "items": {"oneOf": [{"type": "string"}, {"type": "integer"}]}}),
        json!({"anyOf": [{"type": "null"}, {"type": "array", "items": {"type": ["string", "integer"]}}]}),
    ] {
        assert_eq!(refusal(&object(properties(16, &union)), Dialect::Anthropic), None, "{union}");
        assert_refused(
            &object(properties(17, &union)),
            Dialect::Anthropic,
            "/properties/p16",
            "16 properties of a union",
        );
    }
    let mut by_name = object(properties(17, &json!({"$ref": "#/$defs/U"})));
    by_name["$defs"] = json!({"U": {"anyOf": [{"type": "string"}, {"type": "integer"}]}});
    assert_refused(&by_name, Dialect::Anthropic, "/properties/p16", "16 properties of a union");
}

#[test]
fn a_place_is_named_as_the_caller_wrote_it() {
    let many = json!({"type": "object", "properties": properties(25, &json!({"type": "string"}))});
    let all_of = json!({"type": "object", "properties": {"a": {"allOf": [{"$ref": "#/$defs/x~1y"}, {"type": "object"}]}},
                        "required": ["a"], "$defs": {"x/y": many}});
    let error = refusal(&all_of, Dialect::Anthropic).expect("refused");
    assert!(all_of.pointer(&error.path).is_some(), "{error}");
    assert!(error.path.starts_with("/$defs/x~1y/properties/p"), "{error}");
    let types = json!({"type": "object", "required": ["a"], "properties": {"a": {"type": ["object", "null"], "properties": many["properties"]}}});
    assert_refused(&types, Dialect::Anthropic, "/properties/a/properties/p24", "24 optional");
    let choice = json!({"oneOf": [{"type": "null"}, many]});
    assert_refused(&choice, Dialect::Anthropic, "/oneOf/1/properties/p24", "24 optional");
}

#[test]
fn descriptions_that_do_not_fit_the_limits_give_way_in_order() {
    let described = |count: usize, definition: Value| {
        let property = |i: usize| (format!("p{i}"), json!({"$ref": "#/$defs/M", "description": format!("number {i}")}));
        let mut schema = object((0..count).map(property).collect());
        schema["$defs"] = json!({"M": definition});
        schema
    };
    let mut money = object(properties(2, &json!({"type": "integer"})));
    money["description"] = json!("An amount.");
    // As many as there may be unions; then as copies; then, as copies would be too many, alone, which is reported.
    let sent = compiled(&described(16, money.clone()), Dialect::Anthropic);
    assert_eq!(sent.schema["properties"]["p3"], json!({"anyOf": [{"$ref": "#/$defs/M"}], "description": "number 3"}));
    let sent = compiled(&described(17, money.clone()), Dialect::Anthropic);
    assert_eq!(sent.over_limit, None);
    assert_eq!(sent.schema["properties"]["p3"]["description"], "number 3\n\nAn amount.");
    assert_eq!(sent.schema["properties"]["p3"]["properties"], sent.schema["$defs"]["M"]["properties"]);
    money["required"] = json!(["p0"]);
    let sent = compiled(&described(30, money), Dialect::Anthropic);
    assert_eq!(sent.over_limit, None);
    assert_eq!(sent.schema["properties"]["p3"], json!({"$ref": "#/$defs/M"}));
    let lost: Vec<&str> =
        sent.unenforced.iter().filter(|it| it.keyword == "description").map(|it| it.path.as_str()).collect();
    assert_eq!((lost.len(), lost[3]), (30, "/properties/p3"));
}

#[test]
fn an_enum_without_values_is_refused_wherever_it_stands() {
    for (schema, path) in [
        (json!({"enum": []}), "/enum"),
        (json!({"type": "object", "properties": {"a": {"type": "string", "enum": []}}}), "/properties/a/enum"),
        (json!({"type": "array", "items": {"anyOf": [{"type": "null"}, {"enum": []}]}}), "/items/anyOf/1/enum"),
        (
            json!({"$defs": {"Unused": {"enum": []}}, "type": "object", "properties": {"a": {"type": "string"}}}),
            "/$defs/Unused/enum",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string", "not": {"enum": []}}}}),
            "/properties/a/not/enum",
        ),
    ] {
        for dialect in [Dialect::OpenAi, Dialect::Anthropic, Dialect::GeminiJsonSchema, Dialect::GeminiOpenApi] {
            let error = compile(&schema, dialect).expect_err(path);
            assert_eq!(error.path, path, "{dialect:?}");
            assert!(error.message.contains("at least one value"), "{error}");
        }
        assert_eq!(compile_loosely(&schema, Dialect::OpenAi).expect_err(path).path, path);
        assert_eq!(llmbackend::schema::Validator::new(&schema).expect_err(path).path, path);
    }
    // Data that looks like one is data.
    let data = json!({"type": "object", "properties": {"enum": {"type": "string"}, "a": {"const": {"enum": []}}}});
    assert!(compile(&data, Dialect::OpenAi).is_ok());
}
