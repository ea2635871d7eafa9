//! References: what is said beside one reaches the model in every dialect, and every reader finds what one refers to.

use llmbackend::schema::{Compiled, Dialect, compile, compile_loosely};
use serde_json::{Value, json};

const DIALECTS: [Dialect; 4] = [Dialect::OpenAi, Dialect::Anthropic, Dialect::GeminiJsonSchema, Dialect::GeminiOpenApi];

fn sent(schema: &Value, dialect: Dialect) -> Compiled {
    compile(schema, dialect).unwrap_or_else(|error| panic!("{dialect:?}: {error}"))
}

/// What a schema says of a property, its references followed.
fn said_of(root: &Value, node: &Value) -> String {
    let mut said = String::new();
    let mut node = node;
    loop {
        said += node["description"].as_str().unwrap_or_default();
        said += "\n";
        node = match (node["$ref"].as_str(), node["anyOf"].get(0)) {
            (Some(reference), _) => root.pointer(&reference[1..]).expect("resolves as it stands"),
            (None, Some(first)) => first,
            _ => return said,
        };
    }
}

fn invoice(beside: impl Fn(&str) -> Value) -> Value {
    let money = json!({"title": "Money", "description": "An amount of money.", "type": "object",
                       "properties": {"cents": {"type": "integer"}}, "required": ["cents"]});
    json!({"$defs": {"Money": money}, "type": "object", "required": ["net", "gross"],
           "properties": {"net": beside("WITHOUT tax"), "gross": beside("WITH tax")}})
}

#[test]
fn a_description_beside_a_reference_is_sent_beside_that_of_its_target() {
    for beside in [
        (|text: &str| json!({"$ref": "#/$defs/Money", "description": text})) as fn(&str) -> Value,
        |text| json!({"allOf": [{"$ref": "#/$defs/Money"}], "description": text}),
        |text| json!({"anyOf": [{"$ref": "#/$defs/Money"}, {"type": "null"}], "description": text}),
        |text| json!({"type": "array", "items": {"$ref": "#/$defs/Money", "description": text}}),
        |text| json!({"allOf": [{"$ref": "#/$defs/Money"}, {"description": text}]}),
    ] {
        let schema = invoice(beside);
        for dialect in DIALECTS {
            let compiled = sent(&schema, dialect);
            for (name, text) in [("net", "WITHOUT tax"), ("gross", "WITH tax")] {
                let node = &compiled.schema["properties"][name];
                let node = if node.get("items").is_some() { &node["items"] } else { node };
                let said = said_of(&compiled.schema, node);
                assert!(said.contains(text), "{dialect:?}: {}", compiled.schema);
                let everything = compiled.schema.to_string();
                assert!(everything.contains("An amount of money."), "{dialect:?}: {everything}");
            }
            assert!(!compiled.unenforced.iter().any(|it| it.keyword == "description"));
        }
    }
}

#[test]
fn a_described_reference_is_exactly_this() {
    let schema = invoice(|text| json!({"$ref": "#/$defs/Money", "description": text}));
    let net = |dialect| sent(&schema, dialect).schema["properties"]["net"].clone();
    let around = json!({"anyOf": [{"$ref": "#/$defs/Money"}], "description": "WITHOUT tax"});
    assert_eq!(net(Dialect::Anthropic), around);
    assert_eq!(net(Dialect::GeminiJsonSchema), around);
    // The SDK inlines; the definition with its own description is sent besides.
    assert_eq!(
        net(Dialect::OpenAi),
        json!({"description": "WITHOUT tax", "title": "Money", "type": "object", "properties": {"cents": {"type": "integer"}},
               "required": ["cents"], "additionalProperties": false})
    );
    assert_eq!(
        net(Dialect::GeminiOpenApi),
        json!({"type": "OBJECT", "properties": {"cents": {"type": "INTEGER"}}, "title": "Money",
               "description": "WITHOUT tax\n\nAn amount of money.", "required": ["cents"]})
    );
}

#[test]
fn a_described_recursion_keeps_what_is_said_of_each_place() {
    let schema = json!({"$defs": {"Node": {"type": "object", "description": "A person.", "required": ["name"], "properties": {
        "name": {"type": "string"},
        "mother": {"anyOf": [{"$ref": "#/$defs/Node", "description": "who bore her"}, {"type": "null"}]},
        "heirs": {"type": "array", "items": {"$ref": "#/$defs/Node", "description": "by age", "title": "Heir"}},
    }}}, "type": "object", "properties": {"first": {"$ref": "#/$defs/Node", "description": "the founder"}}, "required": ["first"]});
    for dialect in [Dialect::OpenAi, Dialect::GeminiJsonSchema] {
        let root = sent(&schema, dialect).schema;
        let person = &root["$defs"]["Node"];
        for (node, text) in [
            (&person["properties"]["mother"]["anyOf"][0], "who bore her"),
            (&person["properties"]["heirs"]["items"], "by age"),
            (&root["properties"]["first"], "the founder"),
        ] {
            assert_eq!(node["description"], text, "{dialect:?}: {root}");
            assert!(said_of(&root, node).contains(text));
        }
        assert_eq!(person["description"], "A person.");
        assert_eq!(person["properties"]["mother"]["anyOf"][0]["anyOf"], json!([{"$ref": "#/$defs/Node"}]));
    }
    let openai = sent(&schema, Dialect::OpenAi).schema;
    assert_eq!(openai["$defs"]["Node"]["properties"]["heirs"]["items"]["title"], "Heir");
}

#[test]
fn constraints_and_defaults_beside_a_reference_are_told_in_words() {
    let tree = json!({"type": "object", "properties": {"next": {"$ref": "#/$defs/Tree", "minProperties": 2}}});
    let schema = json!({"$defs": {"Tree": tree}, "type": "object", "properties": {"t": {"$ref": "#/$defs/Tree"}}});
    let gemini = sent(&schema, Dialect::GeminiJsonSchema);
    assert_eq!(
        gemini.schema["$defs"]["Tree"]["properties"]["next"],
        json!({"anyOf": [{"$ref": "#/$defs/Tree"}], "description": "{minProperties: 2}"})
    );
    let told: Vec<(&str, &str)> = gemini.unenforced.iter().map(|it| (it.path.as_str(), it.keyword.as_str())).collect();
    assert_eq!(told, [("/$defs/Tree/properties/next", "minProperties")]);
    let color = json!({"$defs": {"Color": {"enum": ["red", "blue"], "type": "string"}}, "type": "object",
                       "properties": {"c": {"$ref": "#/$defs/Color", "default": "red"}}, "required": ["c"]});
    assert_eq!(
        sent(&color, Dialect::Anthropic).schema["properties"]["c"],
        json!({"anyOf": [{"$ref": "#/$defs/Color"}], "description": "{default: \"red\"}"})
    );
}

#[test]
fn a_reference_that_needs_escaping_is_sent_so_that_every_reader_resolves_it() {
    let target = json!({"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]});
    for (name, reference, plain) in [
        ("a b", "#/$defs/a%20b", "a_b"),
        ("a b", "#/$defs/a b", "a_b"),
        ("x/y", "#/$defs/x~1y", "x_y"),
        ("x/y", "#/$defs/x~1%79", "x_y"),
        ("t~n", "#/$defs/t~0n", "t_n"),
        ("Größe", "#/$defs/Gr%C3%B6%C3%9Fe", "Gr__e"),
        ("Größe", "#/$defs/Größe", "Gr__e"),
        ("100%", "#/$defs/100%25", "100_"),
        ("a%20b", "#/$defs/a%2520b", "a_20b"),
        ("List[int]", "#/$defs/List%5Bint%5D", "List_int_"),
        ("Plain", "#/%24defs/Plain", "Plain"),
        ("pkg.Model-Input_1", "#/$defs/pkg.Model-Input_1", "pkg.Model-Input_1"),
    ] {
        let mut schema = json!({"type": "object", "required": ["it", "list"], "properties": {
            "it": {"$ref": reference}, "list": {"type": "array", "items": {"$ref": reference}}}});
        schema["$defs"] = json!({name: target, "a_": {"type": "string"}});
        for dialect in [Dialect::OpenAi, Dialect::Anthropic, Dialect::GeminiJsonSchema] {
            let compiled = sent(&schema, dialect);
            let expected = format!("#/$defs/{plain}");
            assert_eq!(compiled.schema["properties"]["it"], json!({"$ref": expected}), "{dialect:?}, {reference}");
            assert_eq!(compiled.schema["properties"]["list"]["items"]["$ref"], expected.as_str());
            assert_eq!(compiled.schema["$defs"][plain]["properties"]["q"]["type"], "string");
            assert_eq!(compiled.schema["$defs"].as_object().expect("definitions").len(), 2);
        }
        let loose = compile_loosely(&schema, Dialect::OpenAi).expect("loose").schema;
        assert_eq!(loose["properties"]["it"]["$ref"], format!("#/$defs/{plain}").as_str());
        let inlined = sent(&schema, Dialect::GeminiOpenApi).schema;
        assert_eq!(inlined["properties"]["it"]["properties"]["q"]["type"], "STRING");
    }
}

#[test]
fn a_new_name_is_nobody_elses() {
    let schema = json!({"type": "object", "properties": {"x": {"$ref": "#/$defs/a%20b"}, "y": {"$ref": "#/$defs/a~1b"}, "z": {"$ref": "#/$defs/a_b"}},
                        "$defs": {"a b": {"type": "string"}, "a/b": {"type": "integer"}, "a_b": {"type": "boolean"}}});
    for dialect in [Dialect::OpenAi, Dialect::Anthropic, Dialect::GeminiJsonSchema] {
        let root = sent(&schema, dialect).schema;
        for (name, kind) in [("x", "string"), ("y", "integer"), ("z", "boolean")] {
            let reference = root["properties"][name]["$ref"].as_str().expect("a reference");
            assert!(
                reference[1..].bytes().all(|byte| byte.is_ascii_alphanumeric() || b"$/_".contains(&byte)),
                "{reference}"
            );
            assert_eq!(root.pointer(&reference[1..]).expect("there")["type"], kind, "{dialect:?}: {root}");
        }
    }
}

#[test]
fn a_reference_into_a_property_of_an_awkward_name_is_moved_to_the_definitions() {
    let schema = json!({"type": "object", "required": ["my point", "other"], "properties": {
        "my point": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
        "other": {"$ref": "#/properties/my%20point"}}});
    for dialect in [Dialect::OpenAi, Dialect::Anthropic, Dialect::GeminiJsonSchema] {
        let root = sent(&schema, dialect).schema;
        assert_eq!(root["properties"]["other"], json!({"$ref": "#/$defs/my_point"}), "{dialect:?}");
        assert_eq!(root["properties"]["my point"], json!({"$ref": "#/$defs/my_point"}));
        assert_eq!(root["$defs"]["my_point"]["properties"]["x"]["type"], "integer");
    }
    // As it is when the root had to be put into an object.
    let list = json!({"type": "array", "items": {"$ref": "#/%24defs/a%20b"}, "$defs": {"a b": {"type": "string"}}});
    let root = sent(&list, Dialect::OpenAi);
    assert!(root.wrapped);
    assert_eq!(root.schema["properties"]["value"]["items"], json!({"$ref": "#/$defs/a_b"}));
    assert_eq!(root.schema["$defs"], json!({"a_b": {"type": "string"}}));
}

#[test]
fn bounds_of_sixty_four_bits_stay_exact() {
    let node = |schema: Value| json!({"type": "object", "properties": {"n": schema}, "required": ["n"]});
    let n = |schema: Value, dialect| sent(&node(schema), dialect).schema["properties"]["n"].clone();
    let both = json!({"allOf": [{"type": "integer", "minimum": 9_007_199_254_740_992_u64},
                                {"type": "integer", "minimum": 9_007_199_254_740_993_u64}]});
    assert_eq!(n(both.clone(), Dialect::OpenAi)["minimum"], json!(9_007_199_254_740_993_u64));
    assert_eq!(n(both, Dialect::GeminiJsonSchema)["minimum"], json!(9_007_199_254_740_993_u64));
    let above = json!({"type": "integer", "exclusiveMinimum": 9_223_372_036_854_775_807_u64});
    assert_eq!(n(above, Dialect::GeminiJsonSchema)["minimum"], json!(9_223_372_036_854_775_808_u64));
    let below = json!({"type": "integer", "exclusiveMaximum": 18_446_744_073_709_551_615_u64, "maximum": 18_446_744_073_709_551_615_u64});
    assert_eq!(n(below, Dialect::GeminiOpenApi)["maximum"], json!(18_446_744_073_709_551_614_u64));
}
