//! Whether a value has the form of a JSON Schema, of which the keywords that ours use are known.

use serde_json::Value;

/// What of a value does not fit a schema, a line for each.
pub fn misfits(schema: &str, value: &Value) -> Vec<String> {
    let schema: Value = serde_json::from_str(schema).expect("the schema is JSON");
    let mut found = Vec::new();
    compare(&schema, &schema["$defs"], value, "$", &mut found);
    found
}

/// Compares a value with the keywords of JSON Schema that the schema uses; lists what does not fit.
fn compare(schema: &Value, defs: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str().and_then(|name| name.strip_prefix("#/$defs/")) {
        return compare(&defs[name], defs, value, path, found);
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        let fits = choices.iter().any(|choice| {
            let mut inner = Vec::new();
            compare(choice, defs, value, path, &mut inner);
            inner.is_empty()
        });
        if !fits {
            found.push(format!("{path}: none of the forms fits {value}"));
        }
        return;
    }
    let one_of = schema["enum"].as_array().is_none_or(|allowed| allowed.contains(value));
    let constant = schema.get("const").is_none_or(|only| only == value);
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    };
    let is = |word: &&str| match *word {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64(),
        "null" => value.is_null(),
        other => panic!("{other} is a type that this test does not know"),
    };
    if !one_of || !constant || !(types.is_empty() || types.iter().any(is)) {
        return found.push(format!("{path}: {value} does not fit {schema}"));
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        compare(&schema["items"], defs, item, &format!("{path}[{index}]"), found);
    }
    let Some(fields) = value.as_object() else { return };
    for (key, field) in fields {
        match schema["properties"].get(key) {
            Some(schema) => compare(schema, defs, field, &format!("{path}.{key}"), found),
            None => found.push(format!("{path}.{key}: the schema does not have this field")),
        }
    }
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    found.extend(
        required.filter(|key| !fields.contains_key(*key)).map(|key| format!("{path}.{key}: it is missing")),
    );
}
