use std::collections::BTreeSet;

use super::*;

/// The paths of the router, as it tells them itself.
fn routed() -> BTreeSet<String> {
    let told = format!("{:?}", crate::routes::all());
    let paths = told.split('"').filter(|piece| piece.starts_with('/') && !piece.contains("__"));
    paths.map(str::to_string).collect()
}

#[test]
fn every_route_is_documented_and_every_documented_one_is_there() {
    let known: BTreeSet<String> = ROUTES.iter().map(|route| route.path.to_string()).collect();
    let routed = routed();
    assert!(routed.len() > 20, "the router tells its paths: {routed:?}");
    assert_eq!(
        routed.difference(&known).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "not documented"
    );
    assert_eq!(known.difference(&routed).collect::<Vec<_>>(), Vec::<&String>::new(), "not there");
}

#[test]
fn the_document_says_what_the_table_says() {
    let document = document();
    let chat = &document["paths"]["/api/chat"]["post"];
    let schema = &chat["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(schema["required"], json!(["model", "messages"]));
    assert_eq!(schema["properties"]["options"]["properties"]["num_ctx"]["type"], "integer");
    assert!(chat["responses"]["200"]["content"]["application/x-ndjson"].is_object());
    let model = &document["paths"]["/v1/models/{name}"]["get"];
    assert_eq!(model["parameters"][0]["name"], "name");
    let conversation = document["paths"]["/conversations/{id}"].as_object().unwrap();
    assert_eq!(conversation.keys().collect::<Vec<_>>(), ["get", "delete"]);
    for route in ROUTES {
        let usual = route.usual.map(serde_json::from_str::<Value>);
        assert!(
            usual.is_none_or(|usual| usual.is_ok_and(|body| body.is_object())),
            "{}",
            route.path
        );
        let examples = route.fields.concat().into_iter().chain(route.query.iter().copied());
        for Field(name, example, _) in examples {
            assert!(serde_json::from_str::<Value>(example).is_ok(), "{} {name}", route.path);
        }
    }
}
