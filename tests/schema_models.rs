//! Schemas as people write them, and schemas as nobody would, through every dialect.
//!
//! Whatever comes in: what goes out keeps the provider's rules, compiling it again changes nothing, and an answer that fits
//! it fits the caller's schema wherever the report does not say otherwise.

use llmbackend::schema::{Compiled, Dialect, Validator, compile};
use serde_json::{Map, Value, json};

const JSON_SCHEMA_DIALECTS: [Dialect; 3] = [Dialect::OpenAi, Dialect::Anthropic, Dialect::GeminiJsonSchema];

fn models() -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for file in ["pydantic_models", "handwritten"] {
        let text = std::fs::read_to_string(format!("tests/fixtures/schemas/{file}.json")).expect(file);
        let rows: Vec<Value> = serde_json::from_str(&text).expect(file);
        all.extend(
            rows.into_iter().map(|mut row| (row["name"].as_str().expect("name").to_owned(), row["schema"].take())),
        );
    }
    assert!(all.len() > 60);
    all
}

// ---- the rules of OpenAI's strict mode, told a second time ----

fn strict_faults(root: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    if root["type"] != "object" || root.get("anyOf").is_some() {
        faults.push("the root is no object".to_owned());
    }
    strict_node(root, root, "#", &mut faults);
    faults
}

fn strict_node(root: &Value, schema: &Value, at: &str, faults: &mut Vec<String>) {
    let Some(node) = schema.as_object() else {
        faults.push(format!("{at}: not an object"));
        return;
    };
    if let Some(target) = node.get("$ref") {
        let found =
            target.as_str().and_then(|t| t.strip_prefix('#')).and_then(|p| root.pointer(&p.replace("%20", " ")));
        if found.is_none() {
            faults.push(format!("{at}: {target} resolves to nothing"));
        }
        if node.len() > 1 {
            faults.push(format!("{at}: keywords beside $ref"));
        }
        return;
    }
    for (key, value) in node {
        let inner = format!("{at}/{key}");
        match key.as_str() {
            "title" | "description" | "pattern" | "const" | "enum" | "required" => {}
            "multipleOf" | "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "minItems"
            | "maxItems" => {}
            "type" => {}
            "additionalProperties" if value == &json!(false) => {}
            "format" => {
                let nine = ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"];
                if !nine.iter().any(|f| value == f) {
                    faults.push(format!("{inner}: {value}"));
                }
            }
            "properties" | "$defs" | "definitions" => {
                for (name, child) in value.as_object().expect("an object") {
                    strict_node(root, child, &format!("{inner}/{name}"), faults);
                }
            }
            "anyOf" => {
                for (i, child) in value.as_array().expect("a list").iter().enumerate() {
                    strict_node(root, child, &format!("{inner}/{i}"), faults);
                }
            }
            "items" => strict_node(root, value, &inner, faults),
            _ => faults.push(format!("{inner}: not accepted")),
        }
    }
    let typed = ["type", "anyOf", "enum", "const"].iter().any(|key| node.contains_key(*key));
    if !typed {
        faults.push(format!("{at}: no type"));
    }
    let is =
        |kind: &str| node["type"] == kind || node["type"].as_array().is_some_and(|list| list.iter().any(|t| t == kind));
    if node.contains_key("type") && is("object") {
        if node.get("additionalProperties") != Some(&json!(false)) {
            faults.push(format!("{at}: open"));
        }
        let keys: Vec<&String> =
            node.get("properties").and_then(Value::as_object).map(|p| p.keys().collect()).unwrap_or_default();
        let required: Vec<&str> = node
            .get("required")
            .and_then(Value::as_array)
            .map(|r| r.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        if keys != required {
            faults.push(format!("{at}: {keys:?} required {required:?}"));
        }
    }
}

// ---- answers that fit a schema, by chance ----

struct Answers<'a> {
    root: &'a Value,
    rng: fastrand::Rng,
}

impl Answers<'_> {
    fn any(&mut self, depth: usize) -> Value {
        match self.rng.u8(..if depth == 0 { 6 } else { 8 }) {
            0 => Value::Null,
            1 => json!(self.rng.bool()),
            2 => json!(self.rng.i8(..)),
            3 => json!(f64::from(self.rng.i8(..)) / 4.0),
            4 => json!(["", "a", "red", "x y", "cat"][self.rng.usize(..5)]),
            5 => json!({}),
            6 => json!([self.any(depth - 1)]),
            _ => json!({"a": self.any(depth - 1), "kind": "cat"}),
        }
    }

    fn answer(&mut self, schema: &Value, depth: usize) -> Value {
        let Some(node) = schema.as_object() else {
            return self.any(1);
        };
        if let Some(reference) = node.get("$ref").and_then(Value::as_str) {
            let target = self.root.pointer(&reference[1..].replace("%20", " ")).cloned().unwrap_or(Value::Bool(true));
            return if depth == 0 { Value::Null } else { self.answer(&target, depth - 1) };
        }
        if let Some(value) = node.get("const") {
            return value.clone();
        }
        if let Some(values) = node.get("enum").and_then(Value::as_array).filter(|v| !v.is_empty()) {
            return values[self.rng.usize(..values.len())].clone();
        }
        if let Some(branches) = node.get("anyOf").and_then(Value::as_array) {
            // Null and other leaves end a recursion.
            let pick = if depth == 0 { branches.len() - 1 } else { self.rng.usize(..branches.len()) };
            let mut answer = self.answer(&branches[pick], depth.saturating_sub(1));
            if let (Some(object), Value::Object(own)) = (answer.as_object_mut(), self.object(node, depth)) {
                object.extend(own);
            }
            return answer;
        }
        let kind = match node.get("type") {
            Some(Value::String(kind)) => kind.clone(),
            Some(Value::Array(kinds)) => kinds[self.rng.usize(..kinds.len())].as_str().unwrap_or("null").to_owned(),
            _ => return self.any(1),
        };
        let number = |key: &str| node.get(key).and_then(Value::as_f64);
        match kind.as_str() {
            "null" => Value::Null,
            "boolean" => json!(self.rng.bool()),
            "integer" | "number" => {
                let lows = [number("minimum"), number("exclusiveMinimum").map(|n| n + 1.0)];
                let highs = [number("maximum"), number("exclusiveMaximum").map(|n| n - 1.0)];
                let low = lows.into_iter().flatten().reduce(f64::max);
                let high = highs.into_iter().flatten().reduce(f64::min);
                let from = low.unwrap_or_else(|| high.unwrap_or(3.0) - 3.0).ceil() as i64;
                let to = high.unwrap_or_else(|| low.unwrap_or(0.0) + 3.0).floor() as i64;
                let n = if from <= to { self.rng.i64(from..=to) } else { from };
                if kind == "number" && self.rng.bool() { json!(n as f64 + 0.5) } else { json!(n) }
            }
            "string" => self.string(node),
            "array" => {
                let least = node.get("minItems").and_then(Value::as_u64).unwrap_or(0) as usize;
                let most = node.get("maxItems").and_then(Value::as_u64).map_or(least + 2, |n| n as usize);
                let want = if depth == 0 || most < least { least } else { self.rng.usize(least..=most.min(least + 2)) };
                let first = node.get("prefixItems").and_then(Value::as_array).cloned().unwrap_or_default();
                let rest = node.get("items").cloned().unwrap_or(Value::Bool(true));
                (0..want).map(|i| self.answer(first.get(i).unwrap_or(&rest), depth.saturating_sub(1))).collect()
            }
            _ => self.object(node, depth),
        }
    }

    fn string(&mut self, node: &Map<String, Value>) -> Value {
        let text = match node.get("format").and_then(Value::as_str).unwrap_or_default() {
            "date" => "2024-02-29",
            "time" => "10:00:00Z",
            "date-time" => "2024-02-29T10:00:00Z",
            "duration" => "P1D",
            "uuid" => "12345678-1234-4234-8234-123456789012",
            "email" => "a@b.org",
            "uri" => "https://b.org/x",
            "hostname" => "b.org",
            "ipv4" => "1.2.3.4",
            "ipv6" => "::1",
            _ if node.contains_key("pattern") => ["ABC", "a", "12", "aa1"][self.rng.usize(..4)],
            _ => ["", "a", "red", "abc", "a longer text, of forty characters or more"][self.rng.usize(..5)],
        };
        json!(text)
    }

    fn object(&mut self, node: &Map<String, Value>, depth: usize) -> Value {
        let mut object = Map::new();
        let required =
            |name: &str| node.get("required").and_then(Value::as_array).is_some_and(|r| r.iter().any(|v| v == name));
        for (name, schema) in node.get("properties").and_then(Value::as_object).into_iter().flatten() {
            if required(name) || (depth > 0 && self.rng.bool()) {
                object.insert(name.clone(), self.answer(schema, depth.saturating_sub(1)));
            }
        }
        let closed = node.get("additionalProperties") == Some(&Value::Bool(false));
        if !closed && depth > 0 && self.rng.u8(..4) == 0 {
            let schema = node.get("additionalProperties").cloned().unwrap_or(Value::Bool(true));
            object.insert(["a", "b", "zz", "kind"][self.rng.usize(..4)].to_owned(), self.answer(&schema, depth - 1));
        }
        object.into()
    }
}

/// How many answers were tried. Panics if one fits what is sent and not what the caller wrote, against the report.
fn try_answers(name: &str, schema: &Value, compiled: &Compiled, seed: u64) -> usize {
    let (Ok(theirs), Ok(sent)) = (Validator::new(schema), Validator::new(&compiled.schema)) else {
        return 0;
    };
    let mut answers = Answers { root: &compiled.schema, rng: fastrand::Rng::with_seed(seed) };
    let mut fitting = 0;
    for _ in 0..60 {
        let answer = answers.answer(&compiled.schema, 6);
        if sent.validate(&answer).is_err() {
            continue;
        }
        fitting += 1;
        let value = if compiled.wrapped { &answer["value"] } else { &answer };
        if compiled.unenforced.is_empty() {
            if let Err(violations) = theirs.validate(value) {
                panic!("{name}: {value} fits what is sent\n {}\nbut not\n {schema}\n {violations:?}", compiled.schema);
            }
        }
    }
    fitting
}

fn check_invariants(name: &str, schema: &Value, dialect: Dialect, compiled: &Compiled) {
    if dialect == Dialect::OpenAi && compiled.strict {
        let faults = strict_faults(&compiled.schema);
        assert!(faults.is_empty(), "{name}: {faults:?}\n{}\nof {schema}", compiled.schema);
    }
    assert!(compiled.strict || (dialect == Dialect::OpenAi && !compiled.unenforced.is_empty()), "{name}");
    for entry in &compiled.unenforced {
        assert!(schema.pointer(&entry.path).is_some(), "{name}: {entry:?} is not in the schema");
    }
    let again =
        compile(&compiled.schema, dialect).unwrap_or_else(|e| panic!("{name}, {dialect:?}: {e}\n{}", compiled.schema));
    if !compiled.strict && schema.get("$ref").is_some() {
        // A hint only: its root had to take its target in, and what contradicted that is gone from the second input.
        return;
    }
    // Anthropic: a description beside a reference goes once its target has got one, of hints.
    let bare = |schema: &Value| {
        if dialect == Dialect::Anthropic { without_described_references(schema) } else { schema.clone() }
    };
    assert_eq!(bare(&again.schema), bare(&compiled.schema), "{name}, {dialect:?}, of {schema}");
    if dialect != Dialect::Anthropic {
        // Its SDK puts a description where it finds it or, new, at the end: there the order may change once more.
        assert_eq!(again.schema.to_string(), compiled.schema.to_string(), "{name}, {dialect:?}, of {schema}");
    }
    assert_eq!((again.strict, again.wrapped), (compiled.strict, false), "{name}, {dialect:?}");
}

fn without_described_references(schema: &Value) -> Value {
    match schema {
        Value::Object(node) => {
            let reference = node.get("$ref").is_some_and(Value::is_string);
            let kept = node.iter().filter(|(key, _)| !(reference && *key == "description"));
            kept.map(|(key, value)| (key.clone(), without_described_references(value))).collect()
        }
        Value::Array(list) => list.iter().map(without_described_references).collect(),
        other => other.clone(),
    }
}

#[test]
fn real_models_keep_the_rules_of_every_dialect() {
    for (name, schema) in models() {
        let before = schema.to_string();
        for dialect in JSON_SCHEMA_DIALECTS {
            if let Ok(compiled) = compile(&schema, dialect) {
                let root_is_free = dialect == Dialect::GeminiJsonSchema;
                check_invariants_of_root(&name, &compiled, root_is_free);
                check_invariants(&name, &schema, dialect, &compiled);
                if compiled.strict {
                    let fitting = try_answers(&name, &schema, &compiled, 1);
                    assert!(fitting > 0, "{name}, {dialect:?}: no answer fits {}", compiled.schema);
                }
            } else {
                assert_ne!(dialect, Dialect::OpenAi, "{name}: OpenAI takes every model, strict or not");
                assert_ne!(dialect, Dialect::GeminiJsonSchema, "{name}: Gemini takes every model");
            }
        }
        let _ = compile(&schema, Dialect::GeminiOpenApi);
        assert_eq!(schema.to_string(), before, "the caller's schema was changed");
    }
}

fn check_invariants_of_root(name: &str, compiled: &Compiled, root_is_free: bool) {
    assert!(!(root_is_free && compiled.wrapped), "{name}");
    if !root_is_free {
        let root = &compiled.schema;
        let target = root.get("$ref").and_then(Value::as_str).and_then(|t| root.pointer(&t[1..])).unwrap_or(root);
        assert_eq!(target["type"], "object", "{name}: {root}");
    }
}

/// Which models OpenAI takes strictly, and which cannot be said to Anthropic: a change here is a change for users.
#[test]
fn what_each_provider_can_enforce() {
    let named = |keep: &dyn Fn(&Value) -> bool| -> Vec<String> {
        models().into_iter().filter(|(_, schema)| keep(schema)).map(|(name, _)| name).collect()
    };
    let loose = named(&|s| compile(s, Dialect::OpenAi).is_ok_and(|c| !c.strict));
    assert_eq!(loose, LOOSE_ON_OPENAI);
    let refused = named(&|s| compile(s, Dialect::Anthropic).is_err());
    assert_eq!(refused, REFUSED_FOR_ANTHROPIC);
}
const LOOSE_ON_OPENAI: [&str; 11] = [
    "DictModel",
    "Open",
    "AnyField",
    "Tup",
    "HasTD",
    "Json_",
    "RootModel[dict[str, int]]",
    "allOf that contradicts when closed",
    "recursion with description",
    "properties beside anyOf",
    "required without properties",
];
const REFUSED_FOR_ANTHROPIC: [&str; 15] = [
    "DictModel",
    "Tree",
    "TreeReq",
    "Linked",
    "LinkedD",
    "A",
    "AnyField",
    "Tup",
    "HasTD",
    "Expr",
    "Json_",
    "RootModel[dict[str, int]]",
    "root refers to itself",
    "array root refers to itself",
    "recursion with description",
];

// ---- Gemini's second form ----

#[test]
fn open_api_form_knows_no_json_schema_words() {
    fn check(name: &str, node: &Value) {
        let fields = [
            "type",
            "format",
            "title",
            "description",
            "nullable",
            "enum",
            "items",
            "minItems",
            "maxItems",
            "properties",
            "required",
            "propertyOrdering",
            "minProperties",
            "maxProperties",
            "minimum",
            "maximum",
            "minLength",
            "maxLength",
            "pattern",
            "anyOf",
        ];
        for (key, value) in node.as_object().expect(name) {
            assert!(fields.contains(&key.as_str()), "{name}: {key}");
            match key.as_str() {
                "properties" => value.as_object().expect(name).values().for_each(|child| check(name, child)),
                "anyOf" => value.as_array().expect(name).iter().for_each(|child| check(name, child)),
                "items" => check(name, value),
                "type" => assert!(value.as_str().is_some_and(|t| t == t.to_uppercase()), "{name}: {value}"),
                _ => {}
            }
        }
        assert!(node.get("type").is_some() || node.get("anyOf").is_some(), "{name}: {node}");
    }
    let mut taken = 0;
    for (name, schema) in models() {
        if let Ok(compiled) = compile(&schema, Dialect::GeminiOpenApi) {
            check(&name, &compiled.schema);
            taken += 1;
        }
    }
    assert!(taken > 30, "{taken}");
}

/// Recorded from google-genai: the same class through `response_schema`.
#[test]
fn open_api_form_is_the_sdks() {
    let text = std::fs::read_to_string("tests/fixtures/gemini/gemini_schema_cases.jsonl").expect("fixture");
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).expect(line);
        let ours = compile(&row["input"], Dialect::GeminiOpenApi).expect(line).schema;
        assert_eq!(ours, row["output"], "{}", row["call"]);
    }
    assert_eq!(text.lines().count(), 3);
}

// ---- schemas by chance ----

struct Schemas {
    rng: fastrand::Rng,
}

impl Schemas {
    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.rng.usize(..from.len())]
    }

    fn schema(&mut self, depth: usize) -> Value {
        let mut node = Map::new();
        if self.rng.u8(..24) == 0 {
            return json!(self.rng.bool());
        }
        if self.rng.u8(..5) == 0 {
            let target = self.pick(&[
                "#/$defs/A",
                "#/$defs/B",
                "#/$defs/C",
                "#",
                "#/definitions/D~1e",
                "#/properties/a",
                "#/$defs/A/oneOf/0",
            ]);
            node.insert("$ref".to_owned(), target.into());
        }
        let keywords = 1 + self.rng.usize(..3);
        for _ in 0..keywords {
            self.keyword(&mut node, depth);
        }
        node.into()
    }

    fn keyword(&mut self, node: &mut Map<String, Value>, depth: usize) {
        let n = self.rng.u8(..4);
        let (key, value) = match self.rng.u8(..30) {
            0..=7 => {
                let kind = self.pick(&["string", "number", "integer", "boolean", "object", "array", "null", "object"]);
                ("type", kind.into())
            }
            8 => ("type", json!([self.pick(&["string", "object", "integer"]), self.pick(&["null", "array"])])),
            9..=14 if depth > 0 => {
                let names = ["a", "b", "kind", "$ref", "properties"];
                let count = 1 + self.rng.usize(..2);
                let properties: Map<String, Value> =
                    (0..count).map(|_| (self.pick(&names).to_owned(), self.schema(depth - 1))).collect();
                if self.rng.bool() {
                    let required: Vec<Value> = properties.keys().map(|k| k.as_str().into()).collect();
                    node.insert("required".to_owned(), required.into());
                }
                ("properties", properties.into())
            }
            15 | 16 if depth > 0 => ("items", self.schema(depth - 1)),
            17..=20 if depth > 0 => {
                let count = 1 + self.rng.usize(..3);
                let list: Value = (0..count).map(|_| self.schema(depth - 1)).collect();
                (self.pick(&["anyOf", "anyOf", "oneOf", "allOf", "prefixItems"]), list)
            }
            21 => ("additionalProperties", if depth > 0 && n == 0 { self.schema(depth - 1) } else { json!(n == 1) }),
            22 => (self.pick(&["minimum", "exclusiveMinimum", "minItems", "minLength", "minProperties"]), json!(n)),
            23 => (self.pick(&["maximum", "exclusiveMaximum", "maxItems", "maxLength", "multipleOf"]), json!(n + 1)),
            24 => ("enum", json!([self.pick(&["a", "red"]), n, null])),
            25 => ("const", if n == 0 { json!("cat") } else { json!(n) }),
            26 => ("description", "words".into()),
            27 => ("default", if n == 0 { Value::Null } else { json!(n) }),
            28 => ("required", json!([self.pick(&["a", "zz"])])),
            _ => ("format", self.pick(&["date", "uri", "nonsense"]).into()),
        };
        node.insert(key.to_owned(), value);
    }

    fn document(&mut self) -> Value {
        let mut root = self.schema(3);
        if let Value::Object(node) = &mut root {
            let defs: Map<String, Value> = ["A", "B", "C"].iter().map(|n| ((*n).to_owned(), self.schema(2))).collect();
            node.insert("$defs".to_owned(), defs.into());
            node.insert("definitions".to_owned(), json!({"D/e": self.schema(1)}));
        }
        root
    }
}

#[test]
fn schemas_by_chance_keep_the_rules() {
    let (mut compiled_ones, mut strict_ones, mut tried) = (0, 0, 0);
    let rounds: u64 = std::env::var("SCHEMA_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(3000);
    for seed in 0..rounds {
        let schema = Schemas { rng: fastrand::Rng::with_seed(seed) }.document();
        for dialect in JSON_SCHEMA_DIALECTS {
            let Ok(compiled) = compile(&schema, dialect) else {
                continue;
            };
            compiled_ones += 1;
            let name = format!("seed {seed}, {dialect:?}");
            check_invariants(&name, &schema, dialect, &compiled);
            if compiled.strict {
                strict_ones += 1;
                tried += usize::from(try_answers(&name, &schema, &compiled, seed) > 0);
            }
        }
        let _ = compile(&schema, Dialect::GeminiOpenApi);
    }
    assert!(
        compiled_ones as u64 * 2 > rounds && tried * 4 > strict_ones,
        "{compiled_ones} compiled, {strict_ones} strict, {tried} tried"
    );
}

// ---- schemas made to hurt ----

#[test]
fn hostile_schemas_end() {
    // Each definition holds the next one ten times, described: inlined, that is 10^30 nodes.
    let mut defs = Map::new();
    for level in 0..30 {
        let inner = json!({"$ref": format!("#/$defs/L{}", level + 1), "description": "again", "title": "x"});
        let properties: Map<String, Value> = (0..10).map(|i| (format!("p{i}"), inner.clone())).collect();
        defs.insert(format!("L{level}"), json!({"type": "object", "properties": properties}));
    }
    defs.insert("L30".to_owned(), json!({"type": "string"}));
    let wide =
        json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/L0", "description": "d"}}, "$defs": defs});

    let all_of = |n: usize| -> Value { (0..n).map(|_| json!({"$ref": "#/$defs/A"})).collect() };
    let twice = json!({"$ref": "#/$defs/A", "$defs": {"A": {"type": "object", "allOf": all_of(12),
        "properties": {"x": {"allOf": all_of(9)}, "y": {"allOf": all_of(2), "minLength": 2}}}}});
    let mut halves = Map::new();
    for level in 0..60 {
        let next = json!({"$ref": format!("#/$defs/H{}", level + 1)});
        halves.insert(format!("H{level}"), json!({"allOf": [next, next, {"type": "object"}]}));
    }
    halves.insert("H60".to_owned(), json!({"type": "object", "properties": {"q": {"type": "string"}}}));
    let doubling =
        json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/H0", "description": "d"}}, "$defs": halves});

    let mut deep = json!({"type": "string"});
    for _ in 0..3000 {
        deep = json!({"type": "array", "items": deep});
    }
    for (i, schema) in [wide, twice, doubling, deep].iter().enumerate() {
        let start = std::time::Instant::now();
        for dialect in [Dialect::OpenAi, Dialect::Anthropic, Dialect::GeminiJsonSchema, Dialect::GeminiOpenApi] {
            let _ = compile(schema, dialect);
        }
        assert!(start.elapsed().as_secs() < 60, "schema {i} took {:?}", start.elapsed());
    }
    // `Value` drops itself recursively; what is deeper than the parsers allow must not end the test process.
    assert!(
        compile(
            &json!({"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}}),
            Dialect::OpenAi
        )
        .is_err()
    );
}

#[test]
fn what_is_wrong_is_named() {
    for (schema, path, words) in [
        (json!({"type": "object", "properties": {"a": {"type": "strng"}}}), "/properties/a/type", "strng"),
        (json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/No"}}}), "/properties/a", "points to nothing"),
        (json!({"items": {"$ref": "https://example.com/x.json"}}), "/items", "nothing is fetched"),
        (json!({"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}), "", "only back to itself"),
        (json!({"anyOf": []}), "/anyOf", "at least one"),
        (json!({"properties": ["a"]}), "/properties", "object of schemas"),
        (json!([1]), "", "must be an object"),
        (json!({"$ref": 3}), "", "must be a string"),
    ] {
        for dialect in JSON_SCHEMA_DIALECTS {
            let error = compile(&schema, dialect).expect_err(words);
            assert!(error.to_string().contains(words), "{dialect:?}: {error}");
            assert!(error.path.starts_with(path), "{dialect:?}: {error}");
        }
    }
}

#[test]
fn validator_names_places_and_fetches_nothing() {
    fn shared<T: Send + Sync>() {}
    shared::<Validator>();
    let schema = json!({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer", "minimum": 1}},
        "d": {"type": "string", "format": "date"}}, "required": ["a"]});
    let validator = Validator::new(&schema).expect("valid");
    assert_eq!(validator.validate(&json!({"a": [1, 2], "d": "2024-01-31"})), Ok(()));
    let found = validator.validate(&json!({"a": [1, 0, "x"], "d": "soon"})).expect_err("invalid");
    let paths: Vec<&str> = found.iter().map(|v| v.path.as_str()).collect();
    assert_eq!(paths, ["/a/1", "/a/2", "/d"]);
    assert!(found[0].message.contains("minimum"), "{}", found[0].message);
    let many = validator.validate(&json!({"a": vec![0; 50]})).expect_err("invalid");
    assert_eq!(many.len(), 10);

    let error =
        Validator::new(&json!({"type": "object", "properties": {"a": {"minimum": "x"}}})).expect_err("invalid schema");
    assert_eq!(error.path, "/properties/a/minimum");
    let error = Validator::new(&json!({"$ref": "http://127.0.0.1:1/x.json"})).expect_err("remote");
    assert!(error.to_string().contains("nothing is fetched"), "{error}");
    let error =
        Validator::new(&json!({"$schema": "http://127.0.0.1:1/meta.json", "type": "object"})).expect_err("remote");
    assert!(error.to_string().contains("nothing is fetched") || error.to_string().contains("127.0.0.1"), "{error}");
}
