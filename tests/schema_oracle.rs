use llmbackend::schema::{Dialect, compile};
use serde_json::Value;
#[test]
fn dump() {
    for f in ["openai_schema_cases", "openai_schema_models"] {
        let text = std::fs::read_to_string(format!("tests/fixtures/openai/{f}.jsonl")).unwrap();
        for line in text.lines() {
            let row: Value = serde_json::from_str(line).unwrap();
            let got = compile(&row["input"], Dialect::OpenAi);
            let name = row.get("case").or(row.get("call")).unwrap();
            match &got {
                Ok(c) if c.schema.to_string() == row["output"].to_string() && c.strict => println!("SAME {name} {:?}", c.unenforced),
                Ok(c) => println!("DIFF {name}\n  in   {}\n  want {}\n  got  {}\n  strict {} wrapped {} {:?}", row["input"], row["output"], c.schema, c.strict, c.wrapped, c.unenforced),
                Err(e) => println!("ERR {name}\n in {}\n want {}{} got {e}", row["input"], row["output"], row["error"]),
            }
        }
    }
}
