//! The `tools`, the `tool_choice` and the `output_config` of a request: which form the answer must have. Pure.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::error::ApiError;
use super::hints;
use super::models::Family;
use super::schema_subset::{self, Size};
use super::values::{
    Checked, cache_control, check_keys, choice, flag, join, list, name, needed_text, object, present, tag, text,
};
use crate::sandbox::answer::Sampler;

/// Strict tools in one request.
const STRICT_TOOLS_LIMIT: usize = 20;

/// The form that the answer must have.
#[derive(Debug, Clone)]
pub enum Form {
    Text,
    /// JSON text that fits `output_config.format`.
    Json(Arc<Sampler>),
    /// A call of the tool that was asked for by name, or by `any`.
    Tool(String, Arc<Sampler>),
}

/// The schemas seen last: the rows of a batch share theirs, and checking them 100,000 times would be most of the work.
#[derive(Debug, Default)]
pub struct SchemaCache {
    format: Option<Cached>,
    tool: Option<Cached>,
}

#[derive(Debug)]
struct Cached {
    schema: Value,
    size: Size,
    sampler: Arc<Sampler>,
}

/// The sampler of a schema that passes the check, from the cache if it is the same as last time.
fn cached(
    slot: &mut Option<Cached>,
    schema: &Value,
    check: impl FnOnce(&Value) -> Checked<Size>,
) -> Checked<(Size, Arc<Sampler>)> {
    if let Some(known) = slot.as_ref().filter(|known| known.schema == *schema) {
        return Ok((known.size, known.sampler.clone()));
    }
    let size = check(schema)?;
    let sampler = Arc::new(Sampler::new(hints::heeded(schema)));
    *slot = Some(Cached { schema: schema.clone(), size, sampler: sampler.clone() });
    Ok((size, sampler))
}

/// Checks what decides the form of the answer.
pub fn check_form(body: &Map<String, Value>, family: &Family, cache: &mut SchemaCache) -> Checked<Form> {
    let format = check_output_config(body, cache)?;
    let (tools, mut size) = check_tools(body)?;
    let forced = check_choice(body, &tools, family)?;
    if let Some((format_size, _)) = &format {
        size.optional += format_size.optional;
        size.unions += format_size.unions;
    }
    schema_subset::check_size(size).map_err(ApiError::invalid)?;
    if let Some(tool) = forced {
        let (_, sampler) = cached(&mut cache.tool, tool.schema, |_| Ok(Size::default()))?;
        return Ok(Form::Tool(tool.name.to_owned(), sampler));
    }
    Ok(format.map_or(Form::Text, |(_, sampler)| Form::Json(sampler)))
}

fn check_output_config(body: &Map<String, Value>, cache: &mut SchemaCache) -> Checked<Option<(Size, Arc<Sampler>)>> {
    let Some(config) = present(body, "output_config") else {
        return Ok(None);
    };
    let config = object("output_config", config)?;
    check_keys("output_config", config, &["effort", "format"])?;
    if let Some(effort) = present(config, "effort") {
        choice("output_config.effort", effort, &["low", "medium", "high", "xhigh", "max"])?;
    }
    let Some(format) = present(config, "format") else {
        return Ok(None);
    };
    let format = object("output_config.format", format)?;
    tag("output_config.format", format, &["json_schema"])?;
    check_keys("output_config.format", format, &["type", "schema"])?;
    let path = "output_config.format.schema";
    let schema = format.get("schema").ok_or_else(|| ApiError::missing(path))?;
    object(path, schema)?;
    let checked = |schema: &Value| schema_subset::check(schema).map_err(|why| ApiError::at(path, why));
    cached(&mut cache.format, schema, checked).map(Some)
}

/// A tool of the caller's.
struct Tool<'a> {
    name: &'a str,
    schema: &'a Value,
}

fn check_tools(body: &Map<String, Value>) -> Checked<(Vec<Tool<'_>>, Size)> {
    let mut tools: Vec<Tool<'_>> = Vec::new();
    let mut size = Size::default();
    let mut strict_tools = 0;
    let given = body.get("tools").map_or(Ok(&[][..]), |tools| list("tools", tools).map(Vec::as_slice))?;
    for (place, tool) in given.iter().enumerate() {
        let path = format!("tools.{place}");
        let tool = object(&path, tool)?;
        // Tools that the provider runs have a versioned type and settings of their own.
        if present(tool, "type").is_some_and(|kind| kind != "custom") {
            text(&join(&path, "type"), &tool["type"])?;
            continue;
        }
        let path = join(&path, "custom");
        let (found, strict) = check_tool(&path, tool)?;
        if tools.iter().any(|known| known.name == found.name) {
            return Err(ApiError::at("tools", "Tool names must be unique."));
        }
        if strict {
            strict_tools += 1;
            let added = schema_subset::check(found.schema);
            let added = added.map_err(|why| ApiError::at(&join(&path, "input_schema"), why))?;
            size.optional += added.optional;
            size.unions += added.unions;
        }
        tools.push(found);
    }
    if strict_tools > STRICT_TOOLS_LIMIT {
        let message = format!("Too many strict tools ({strict_tools}). The maximum is {STRICT_TOOLS_LIMIT}.");
        return Err(ApiError::at("tools", message));
    }
    Ok((tools, size))
}

fn check_tool<'a>(path: &str, tool: &'a Map<String, Value>) -> Checked<(Tool<'a>, bool)> {
    const KEYS: &[&str] = &[
        "name",
        "description",
        "input_schema",
        "strict",
        "type",
        "cache_control",
        "allowed_callers",
        "defer_loading",
        "eager_input_streaming",
        "input_examples",
    ];
    check_keys(path, tool, KEYS)?;
    cache_control(path, tool)?;
    let tool_name = needed_text(path, tool, "name")?;
    name(&join(path, "name"), tool_name)?;
    if let Some(description) = tool.get("description") {
        text(&join(path, "description"), description)?;
    }
    let schema_path = join(path, "input_schema");
    let schema = tool.get("input_schema").ok_or_else(|| ApiError::missing(&schema_path))?;
    let kind = object(&schema_path, schema)?.get("type");
    let kind_path = join(&schema_path, "type");
    if kind.ok_or_else(|| ApiError::missing(&kind_path))? != "object" {
        return Err(ApiError::at(&kind_path, "Input should be 'object'"));
    }
    let strict = match present(tool, "strict") {
        Some(strict) => flag(&join(path, "strict"), strict)?,
        None => false,
    };
    Ok((Tool { name: tool_name, schema }, strict))
}

/// The tool that must be called, if any.
fn check_choice<'a, 'b>(
    body: &Map<String, Value>,
    tools: &'b [Tool<'a>],
    family: &Family,
) -> Checked<Option<&'b Tool<'a>>> {
    let Some(given) = body.get("tool_choice") else {
        return Ok(None);
    };
    let path = "tool_choice";
    let given = object(path, given)?;
    let kind = tag(path, given, &["auto", "any", "tool", "none"])?;
    let keys: &[&str] = match kind {
        "tool" => &["type", "name", "disable_parallel_tool_use"],
        "none" => &["type"],
        _ => &["type", "disable_parallel_tool_use"],
    };
    check_keys(path, given, keys)?;
    if let Some(disable) = given.get("disable_parallel_tool_use") {
        flag("tool_choice.disable_parallel_tool_use", disable)?;
    }
    if body.get("tools").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        return Err(ApiError::at(path, "tool_choice may only be specified while providing tools"));
    }
    if matches!(kind, "auto" | "none") {
        return Ok(None);
    }
    if family.refuses_forced_tools {
        let message = "type \"tool\" and \"any\" are not supported for this model.";
        return Err(ApiError::at(path, message));
    }
    if body.get("thinking").and_then(|thinking| thinking.get("type")).is_some_and(|kind| kind == "enabled") {
        return Err(ApiError::invalid("Thinking may not be enabled when tool_choice forces tool use."));
    }
    if kind == "any" {
        return Ok(tools.first());
    }
    let wanted = needed_text(path, given, "name")?;
    let found = tools.iter().find(|tool| tool.name == wanted);
    found.map(Some).ok_or_else(|| ApiError::invalid(format!("Tool '{wanted}' not found in provided tools")))
}
