//! What the official SDKs make of a schema, recorded, against what we make of it. Key order counts.
//!
//! One table a provider lists every case where we differ on purpose, with the reason and exactly what we send.

use llmbackend::schema::{Compiled, Dialect, SchemaError, compile};
use serde_json::Value;
use std::collections::HashSet;

enum Ours {
    /// Strict mode, exactly this.
    Strict(&'static str),
    /// `strict: false`, exactly this.
    Loose(&'static str),
    /// A `SchemaError` with these words.
    Error(&'static str),
}
use Ours::{Error, Loose, Strict};

const OPENAI: &[(&str, &str, Ours)] = &[
    (
        "type list object|null",
        "a type list with 'object' is closed like 'object'; the root must be an object: wrapped, and unwrapped in the answer",
        Strict(
            r#"{"type":"object","properties":{"value":{"type":["object","null"],"properties":{"a":{"type":"string"}},"additionalProperties":false,"required":["a"]}},"required":["value"],"additionalProperties":false}"#,
        ),
    ),
    (
        "additionalProperties true kept",
        "open object: strict mode refuses it, so the caller's schema goes out with strict false",
        Loose(r#"{"type":"object","properties":{"a":{"type":"string"}},"additionalProperties":true}"#),
    ),
    (
        "items list (tuple form) not visited",
        "tuple: strict mode refuses it, so the caller's schema goes out with strict false",
        Loose(
            r#"{"type":"object","properties":{"a":{"type":"array","items":[{"type":"object","properties":{"b":{"type":"string"}}}]}}}"#,
        ),
    ),
    (
        "prefixItems not visited",
        "tuple: strict mode refuses it, so the caller's schema goes out with strict false",
        Loose(
            r#"{"type":"object","properties":{"a":{"type":"array","prefixItems":[{"type":"object","properties":{"b":{"type":"string"}}}]}}}"#,
        ),
    ),
    (
        "oneOf not visited",
        "the API refuses oneOf: sent as anyOf, branches made strict",
        Strict(
            r#"{"type":"object","properties":{"a":{"anyOf":[{"type":"object","properties":{"b":{"type":"string"}},"additionalProperties":false,"required":["b"]},{"type":"null"}]}},"additionalProperties":false,"required":["a"]}"#,
        ),
    ),
    (
        "root anyOf",
        "the root must be an object: wrapped, and unwrapped in the answer",
        Strict(
            r#"{"type":"object","properties":{"value":{"anyOf":[{"type":"object","properties":{"a":{"type":"string"}},"additionalProperties":false,"required":["a"]},{"type":"object","properties":{"b":{"type":"string"}},"additionalProperties":false,"required":["b"]}]}},"required":["value"],"additionalProperties":false}"#,
        ),
    ),
    (
        "$ref chain with siblings",
        "the SDK loses the content behind a chain of references; it is followed to its end",
        Strict(
            r##"{"type":"object","properties":{"a":{"description":"d","type":"object","properties":{"q":{"type":"string"}},"additionalProperties":false,"required":["q"]}},"$defs":{"X":{"type":"object","properties":{"q":{"type":"string"}},"additionalProperties":false,"required":["q"]},"Y":{"$ref":"#/$defs/X"}},"additionalProperties":false,"required":["a"]}"##,
        ),
    ),
    (
        r##"$ref "#" with sibling -> error"##,
        "recursion through '#' is allowed: the reference stays, its description goes",
        Strict(r##"{"type":"object","properties":{"a":{"$ref":"#"}},"additionalProperties":false,"required":["a"]}"##),
    ),
    ("$ref external bare kept", "nothing is ever fetched: SchemaError", Error("leaves the schema")),
    (
        "self-recursive $ref with sibling -> RecursionError",
        "the SDK recurses until the stack ends; the reference stays, its description goes",
        Strict(
            r##"{"$defs":{"N":{"type":"object","properties":{"n":{"$ref":"#/$defs/N"}},"additionalProperties":false,"required":["n"]}},"type":"object","properties":{"n":{"$ref":"#/$defs/N"}},"additionalProperties":false,"required":["n"]}"##,
        ),
    ),
    (
        "property schema true -> TypeError",
        "'true' allows anything, which strict mode cannot say: strict false",
        Loose(r#"{"type":"object","properties":{"a":true}}"#),
    ),
    (
        "enum/const/format untouched",
        "the API refuses formats outside its nine: dropped, validated locally",
        Strict(
            r#"{"type":"object","properties":{"a":{"enum":["x",1,null]},"b":{"const":3},"c":{"type":"string"}},"additionalProperties":false,"required":["a","b","c"]}"#,
        ),
    ),
    (
        "not an object root (array)",
        "the root must be an object: wrapped, and unwrapped in the answer",
        Strict(
            r#"{"type":"object","properties":{"value":{"type":"array","items":{"type":"object","properties":{"a":{"type":"string"}},"additionalProperties":false,"required":["a"]}}},"required":["value"],"additionalProperties":false}"#,
        ),
    ),
    (
        "empty schema",
        "'{}' allows anything, which strict mode cannot say: strict false; the root must be an object: wrapped, and unwrapped in the answer",
        Loose(r#"{"type":"object","properties":{"value":{}},"required":["value"],"additionalProperties":false}"#),
    ),
    (
        "responses.parse(text_format=WithDesc)",
        "minLength and maxLength are not in the API's list: dropped, validated locally",
        Strict(
            r#"{"properties":{"a":{"description":"the a","maximum":10,"minimum":0,"multipleOf":2,"title":"A","type":"integer"},"s":{"pattern":"^a","title":"S","type":"string"},"l":{"items":{"type":"integer"},"maxItems":3,"minItems":1,"title":"L","type":"array"}},"required":["a","s","l"],"title":"WithDesc","type":"object","additionalProperties":false}"#,
        ),
    ),
    (
        "responses.parse(text_format=Unions)",
        "the API refuses non-null defaults: dropped",
        Strict(
            r##"{"$defs":{"Addr":{"description":"An address.","properties":{"street":{"title":"Street","type":"string"},"zip":{"anyOf":[{"type":"string"},{"type":"null"}],"title":"Zip"}},"required":["street","zip"],"title":"Addr","type":"object","additionalProperties":false},"Color":{"enum":["red","blue"],"title":"Color","type":"string"}},"properties":{"u":{"anyOf":[{"type":"integer"},{"type":"string"},{"$ref":"#/$defs/Addr"}],"title":"U"},"l":{"enum":["a","b"],"title":"L","type":"string"},"l1":{"const":"only","title":"L1","type":"string"},"e":{"$ref":"#/$defs/Color"},"e2":{"anyOf":[{"$ref":"#/$defs/Color"},{"type":"null"}]},"e3":{"enum":["red","blue"],"title":"Color","type":"string"}},"required":["u","l","l1","e","e2","e3"],"title":"Unions","type":"object","additionalProperties":false}"##,
        ),
    ),
    (
        "responses.parse(text_format=AnyM)",
        "Any allows anything, which strict mode cannot say: strict false",
        Loose(
            r#"{"properties":{"a":{"title":"A"},"b":{"title":"B"}},"required":["a","b"],"title":"AnyM","type":"object"}"#,
        ),
    ),
    (
        "responses.parse(text_format=TupM)",
        "tuple: strict mode refuses it, so the caller's schema goes out with strict false",
        Loose(
            r#"{"properties":{"t":{"maxItems":2,"minItems":2,"prefixItems":[{"type":"integer"},{"type":"string"}],"title":"T","type":"array"},"t2":{"items":{"type":"integer"},"title":"T2","type":"array"},"s":{"items":{"type":"integer"},"title":"S","type":"array","uniqueItems":true}},"required":["t","t2","s"],"title":"TupM","type":"object"}"#,
        ),
    ),
    (
        "responses.parse(text_format=Default_Nested)",
        "the API refuses non-null defaults: dropped",
        Strict(
            r#"{"$defs":{"Addr":{"description":"An address.","properties":{"street":{"title":"Street","type":"string"},"zip":{"anyOf":[{"type":"string"},{"type":"null"}],"title":"Zip"}},"required":["street","zip"],"title":"Addr","type":"object","additionalProperties":false}},"properties":{"addr":{"description":"An address.","properties":{"street":{"title":"Street","type":"string"},"zip":{"anyOf":[{"type":"string"},{"type":"null"}],"title":"Zip"}},"required":["street","zip"],"title":"Addr","type":"object","additionalProperties":false}},"title":"Default_Nested","type":"object","additionalProperties":false,"required":["addr"]}"#,
        ),
    ),
    (
        "responses.parse(text_format=DeepConst)",
        "maxLength is not in the API's list: dropped, validated locally",
        Strict(
            r#"{"properties":{"x":{"exclusiveMaximum":5,"exclusiveMinimum":0,"title":"X","type":"integer"},"y":{"items":{"type":"string"},"maxItems":2,"title":"Y","type":"array"}},"required":["x","y"],"title":"DeepConst","type":"object","additionalProperties":false}"#,
        ),
    ),
    (
        "responses.parse(text_format=DC)",
        "the SDK takes no dataclass; a JSON Schema is a JSON Schema",
        Strict(
            r#"{"properties":{"a":{"title":"A","type":"integer"}},"required":["a"],"title":"DC","type":"object","additionalProperties":false}"#,
        ),
    ),
    (
        "responses.parse(text_format=TD)",
        "the SDK takes no TypedDict; a JSON Schema is a JSON Schema",
        Strict(
            r#"{"properties":{"a":{"title":"A","type":"integer"},"b":{"title":"B","type":"string"}},"required":["a","b"],"title":"TD","type":"object","additionalProperties":false}"#,
        ),
    ),
    (
        "responses.parse(text_format=list[int])",
        "the SDK takes no list; the root must be an object: wrapped, and unwrapped in the answer",
        Strict(
            r#"{"type":"object","properties":{"value":{"items":{"type":"integer"},"type":"array"}},"required":["value"],"additionalProperties":false}"#,
        ),
    ),
];

const ANTHROPIC: &[(&str, &str, Ours)] = &[
    (
        "string unsupported format",
        "(a) values are written as JSON",
        Strict(r#"{"type":"string","description":"{format: \"binary\"}"}"#),
    ),
    (
        "string default",
        "(a) values are written as JSON",
        Strict(r#"{"type":"string","description":"{default: \"x\"}"}"#),
    ),
    (
        "default null/bool/list",
        "(a) values are written as JSON",
        Strict(
            r#"{"type":"object","properties":{"a":{"type":"boolean","description":"{default: true}"},"b":{"type":"null","description":"{default: null}"},"c":{"type":"array","items":{"type":"string"},"description":"{default: [\"x\"]}"}},"additionalProperties":false}"#,
        ),
    ),
    ("enum complex", "(e) the SDK sends an object that is always empty and fits no value of the enum", Error("no map")),
    (
        "array uniqueItems",
        "(a) values are written as JSON",
        Strict(r#"{"type":"array","items":{"type":"string"},"description":"{uniqueItems: true}"}"#),
    ),
    ("tuple prefixItems", "(e) a tuple cannot be expressed; the SDK sends an array of anything", Error("no tuple")),
    (
        "object map (additionalProperties schema)",
        "(e) a map cannot be expressed; the SDK sends an object that is always empty",
        Error("no map"),
    ),
    (
        "oneOf -> anyOf + discriminator",
        "(a) values are written as JSON",
        Strict(
            r##"{"$defs":{"A":{"type":"object","properties":{"k":{"const":"a"}},"additionalProperties":false},"B":{"type":"object","properties":{"k":{"const":"b"}},"additionalProperties":false}},"anyOf":[{"$ref":"#/$defs/A"},{"$ref":"#/$defs/B"}],"description":"{discriminator: {\"propertyName\": \"k\", \"mapping\": {\"a\": \"#/$defs/A\"}}}"}"##,
        ),
    ),
    (
        "allOf",
        "closed branches contradict each other: the SDK's schema fits only {}; merged into one object",
        Strict(
            r#"{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"string"}},"additionalProperties":false}"#,
        ),
    ),
    (
        "allOf with $ref",
        "the API takes no $ref in allOf: merged into one object",
        Strict(
            r#"{"$defs":{"A":{"type":"object","properties":{"a":{"type":"string"}},"additionalProperties":false}},"type":"object","description":"d","properties":{"a":{"type":"string"}},"additionalProperties":false}"#,
        ),
    ),
    ("recursive", "(e) the API refuses recursion", Error("no recursive schema")),
    ("type list", "(b) a list of types is an anyOf", Strict(r#"{"anyOf":[{"type":"string"},{"type":"null"}]}"#)),
    ("not", "(a) values are written as JSON", Strict(r#"{"type":"string","description":"{not: {\"const\": \"x\"}}"}"#)),
    (
        "contentEncoding",
        "(a) values are written as JSON",
        Strict(r#"{"type":"string","description":"{contentEncoding: \"base64\"}"}"#),
    ),
    ("pydantic kitchen sink", "(e) it holds a map and a tuple", Error("no map")),
    (
        "pydantic dict root",
        "(e) a map cannot be expressed; the SDK sends an object that is always empty",
        Error("no map"),
    ),
];

/// The recorded cases of one file: name, input, and output where the SDK gave one.
fn cases(file: &str, name: &str) -> Vec<(String, Value, Option<Value>)> {
    let text = std::fs::read_to_string(format!("tests/fixtures/{file}")).expect(file);
    let row = |line: &str| {
        let mut row: Value = serde_json::from_str(line).expect(line);
        let label = row[name].as_str().expect(name).to_owned();
        let output = row.get("output").cloned();
        (label, row["input"].take(), output)
    };
    text.lines().map(row).collect()
}

fn check(
    cases: Vec<(String, Value, Option<Value>)>,
    table: &[(&str, &str, Ours)],
    dialect: Dialect,
    seen: fn(&Compiled) -> Value,
) {
    let mut unused: HashSet<&str> = table.iter().map(|(name, ..)| *name).collect();
    assert_eq!(unused.len(), table.len(), "a case stands twice in the table");
    for (name, input, theirs) in cases {
        let got: Result<Compiled, SchemaError> = compile(&input, dialect);
        let Some((_, why, ours)) = table.iter().find(|(listed, ..)| *listed == name) else {
            match (theirs, got) {
                (Some(theirs), Ok(got)) => {
                    assert_eq!(seen(&got).to_string(), theirs.to_string(), "{name}");
                    assert!(got.strict, "{name}");
                }
                (None, Err(_)) => {}
                (theirs, got) => panic!("{name}: the SDK gave {theirs:?}, we {got:?}"),
            }
            continue;
        };
        unused.remove(name.as_str());
        assert!(!why.is_empty());
        match (ours, got) {
            (Strict(text), Ok(got)) => {
                assert_eq!(seen(&got).to_string(), *text, "{name}");
                assert!(got.strict, "{name}");
            }
            (Loose(text), Ok(got)) => {
                assert_eq!(seen(&got).to_string(), *text, "{name}");
                assert!(!got.strict && !got.unenforced.is_empty(), "{name}");
            }
            (Error(words), Err(error)) => assert!(error.to_string().contains(words), "{name}: {error}"),
            (_, got) => panic!("{name}: {got:?}"),
        }
        if let (Strict(text) | Loose(text), Some(theirs)) = (ours, theirs) {
            assert_ne!(*text, theirs.to_string(), "{name} is no difference: take it out of the table");
        }
    }
    assert!(unused.is_empty(), "no such case: {unused:?}");
}

#[test]
fn openai() {
    let mut all = cases("openai/openai_schema_cases.jsonl", "case");
    all.extend(cases("openai/openai_schema_models.jsonl", "call"));
    check(all, OPENAI, Dialect::OpenAi, |compiled| compiled.schema.clone());
}

/// The SDK wraps no root; we do, and compare what is inside.
#[test]
fn anthropic() {
    let all = cases("anthropic/anthropic_schema_cases.jsonl", "name");
    check(all, ANTHROPIC, Dialect::Anthropic, |compiled| {
        if !compiled.wrapped {
            return compiled.schema.clone();
        }
        let mut inner = compiled.schema["properties"]["value"].clone();
        if let (Some(defs), Some(node)) = (compiled.schema.get("$defs"), inner.as_object_mut()) {
            node.shift_insert(0, "$defs".to_owned(), defs.clone());
        }
        inner
    });
}
