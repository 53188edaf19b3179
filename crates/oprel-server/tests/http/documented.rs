//! The OpenAPI document beside the server that it is about: routes, methods, and fields that are read.

use serde_json::{Value, json};

use crate::running;

/// Bodies of a documented route, each with one more of its fields, and that field's name.
fn documented_bodies(body: &Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    let Some(fields) = body["schema"]["properties"].as_object() else { return all };
    for (name, field) in fields {
        let examples: Vec<Value> = match field["properties"].as_object() {
            Some(inner) => inner.iter().map(|(key, f)| json!({key: f["example"]})).collect(),
            None => vec![field["example"].clone()],
        };
        for example in examples {
            let mut asked = body["example"].clone();
            if fields.contains_key("options") && fields.contains_key("stream") {
                asked["options"] = json!({"num_predict": 2});
            }
            match (asked[name].as_object_mut(), example.as_object()) {
                (Some(known), Some(more)) => known.extend(more.clone()),
                _ => asked[name] = example,
            }
            if fields.contains_key("stream") {
                asked["stream"] = json!(false);
            }
            if name == "top_logprobs" {
                asked["logprobs"] = json!(true);
            }
            all.push((name.clone(), asked));
        }
    }
    all
}

#[test]
fn what_is_documented_is_so() {
    let server = running();
    let document = server.get("/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    let mut wrong = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let concrete = path.replace("{name}", "demo").replace("{id}", "none");
        for method in ["get", "post", "put", "delete", "patch"] {
            let reply = server.send(&method.to_uppercase(), &concrete, "", "");
            if (reply.status != 405) != operations[method].is_object() {
                wrong.push(format!("{method} {path}: {}", reply.status));
            }
        }
        let body = &operations["post"]["requestBody"]["content"]["application/json"];
        for (name, asked) in documented_bodies(body) {
            let reply = server.post(path, &asked);
            let ignored = reply.header("x-oprel-ignored").unwrap_or_default();
            let is_read = reply.status == 200 && !ignored.split(", ").any(|i| i == name);
            // What this model cannot do is refused by its name: then it was read.
            let refusals = ["does not support", "ranking head", "exclude", "invalid model name"];
            let is_refused = reply.status == 400 && refusals.iter().any(|r| reply.body.contains(r));
            // What is not there was looked for after all fields were read.
            let is_absent = reply.status == 404 && reply.body.contains("not found");
            if !is_read && !is_refused && !is_absent && path != "/api/me" {
                wrong.push(format!("{path} {asked}: {} {ignored} {}", reply.status, reply.body));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
