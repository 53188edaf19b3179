//! The numbers of a request, as a profile names them: checked, sent, or refused by their names.

use oprel_api::{Cause, ErrorKind, Failure, Request, Sampling};
use serde_json::{Map, Value, json};

use crate::Profile;

/// A bias that forbids a token.
const FORBIDS: f32 = -100.0;

/// A number of a request, under our name.
struct Said {
    ours: &'static str,
    value: Value,
    /// Whether leaving it out would change the answer.
    counts: bool,
    /// Whether it is sent even where it changes nothing: servers have defaults of their own.
    always: bool,
}

/// Writes all numbers of `request` into `body`.
///
/// # Errors
/// `Unsupported` by the name of what the profile has no field for; out of range by name.
pub(crate) fn write(
    profile: &Profile,
    request: &Request,
    body: &mut Map<String, Value>,
) -> Result<(), Failure> {
    for said in sampling(&request.sampling, profile).into_iter().chain(others(request)) {
        let Some(knob) = profile.knob(said.ours) else {
            if said.counts {
                return Err(unsupported(profile, said.ours));
            }
            continue;
        };
        if !said.counts && !said.always {
            continue;
        }
        let outside = |number: f64| !(knob.least..=knob.most).contains(&number);
        let numbers = said.value.as_array().into_iter().flatten().chain([&said.value]);
        let wrong = numbers.filter_map(Value::as_f64).find(|&number| outside(number));
        if let Some(number) = wrong {
            let (ours, name) = (said.ours, profile.name);
            let message = format!(
                "{ours} must be between {} and {} for {name}, not {number}",
                knob.least, knob.most
            );
            return Err(Failure::new(ErrorKind::Validation, message));
        }
        body.insert(knob.theirs.into(), said.value);
    }
    biases(&request.sampling, body)
}

/// What a server of this kind has no field for.
pub(crate) fn unsupported(profile: &Profile, field: &str) -> Failure {
    let message = format!("{field} is not supported by {}", profile.name);
    Failure::new(ErrorKind::Validation, message).because(Cause::Unsupported(field.into()))
}

fn biases(sampling: &Sampling, body: &mut Map<String, Value>) -> Result<(), Failure> {
    if sampling.logit_bias.is_empty() {
        return Ok(());
    }
    let mut all = Map::new();
    for bias in &sampling.logit_bias {
        if bias.bias > -FORBIDS || (bias.bias < FORBIDS && bias.bias.is_finite()) {
            let message = format!("logit_bias must be between -100 and 100, not {}", bias.bias);
            return Err(Failure::new(ErrorKind::Validation, message));
        }
        all.insert(bias.token.to_string(), number(bias.bias.max(FORBIDS)));
    }
    body.insert("logit_bias".into(), Value::Object(all));
    Ok(())
}

/// As a user writes it: 0.8, not 0.800000011920929.
fn number(x: f32) -> Value {
    x.to_string().parse::<f64>().map_or(Value::Null, |x| json!(x))
}

fn sampling(s: &Sampling, profile: &Profile) -> Vec<Said> {
    let usual = Sampling::default();
    let (dry, xtc, steers) = (s.dry.is_on(), s.xtc.is_on(), s.mirostat.is_on());
    // What a dialect fills in is no wish of the client: it is not refused where it has no place.
    let always = |ours, value: Value, counts| Said { ours, value, counts, always: true };
    let only = |ours, value: Value, counts| Said { ours, value, counts, always: false };
    let top_k = if s.top_k == 0 { json!(profile.every_top_k) } else { json!(s.top_k) };
    let cuts = s.top_k != 0 && s.top_k != usual.top_k;
    let repeats = s.repeat_penalty != 1.0;
    vec![
        always("temperature", number(s.temperature), true),
        always("top_p", number(s.top_p), s.top_p != 1.0),
        always("top_k", top_k, cuts),
        always("min_p", number(s.min_p), s.min_p != 0.0),
        always("repeat_penalty", number(s.repeat_penalty), repeats),
        always("presence_penalty", number(s.presence_penalty), s.presence_penalty != 0.0),
        always("frequency_penalty", number(s.frequency_penalty), s.frequency_penalty != 0.0),
        only(
            "repeat_last_n",
            json!(s.repeat_last_n),
            s.repeat_last_n != usual.repeat_last_n && s.penalizes(),
        ),
        only("typical_p", number(s.typical_p), s.typical_p != 1.0),
        only("top_n_sigma", number(s.top_n_sigma), s.top_n_sigma > 0.0),
        only("dynatemp_range", number(s.dynatemp_range), s.dynatemp_range != 0.0),
        only("dynatemp_exponent", number(s.dynatemp_exponent), s.dynatemp_range != 0.0),
        only("mirostat", json!(s.mirostat.version), steers),
        only("mirostat_tau", number(s.mirostat.tau), steers),
        only("mirostat_eta", number(s.mirostat.eta), steers),
        only("dry_multiplier", number(s.dry.multiplier), dry),
        only("dry_base", number(s.dry.base), dry),
        only("dry_allowed_length", json!(s.dry.allowed_length), dry),
        only("dry_penalty_last_n", json!(s.dry.last_n), dry && s.dry.last_n != usual.dry.last_n),
        only(
            "dry_sequence_breakers",
            json!(s.dry.breakers),
            dry && s.dry.breakers != usual.dry.breakers,
        ),
        only("xtc_probability", number(s.xtc.probability), xtc),
        only("xtc_threshold", number(s.xtc.threshold), xtc),
        only("seed", json!(s.seed), s.seed.is_some()),
    ]
}

fn others(request: &Request) -> Vec<Said> {
    let (limits, cache) = (&request.limits, &request.cache);
    let only = |ours, value: Value, counts| Said { ours, value, counts, always: false };
    vec![
        only("min_tokens", json!(limits.min_tokens), limits.min_tokens > 0),
        only(
            "max_thinking_tokens",
            json!(limits.max_thinking_tokens),
            limits.max_thinking_tokens.is_some(),
        ),
        only("ignore_eos", json!(request.ignore_end), request.ignore_end),
        only("stop_token_ids", json!(request.stop_tokens), !request.stop_tokens.is_empty()),
        // Pages would be shared with others although that is not wanted.
        only("cache_salt", json!(cache.salt), cache.salt.is_some()),
        // The answer is the same either way: sent where there is a field, never refused.
        Said { ours: "cache_prompt", value: json!(cache.read), counts: false, always: !cache.read },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use oprel_api::{Dry, LogitBias};

    fn written(profile: &str, request: &Request) -> Result<Value, Failure> {
        let mut body = Map::new();
        write(Profile::named(profile).unwrap(), request, &mut body)?;
        Ok(Value::Object(body))
    }

    fn with(change: impl FnOnce(&mut Request)) -> Request {
        let mut request = Request::prompt("hi");
        change(&mut request);
        request
    }

    #[test]
    fn every_server_gets_its_own_names() {
        let usual = with(|r| r.sampling.top_k = 0);
        assert_eq!(
            written("generic", &usual).unwrap(),
            json!({"temperature": 0.8, "top_p": 0.9, "presence_penalty": 0.0, "frequency_penalty": 0.0})
        );
        let vllm = written("vllm", &usual).unwrap();
        assert_eq!((&vllm["top_k"], &vllm["repetition_penalty"]), (&json!(-1), &json!(1.0)));
        assert_eq!(vllm.get("min_tokens"), None);
        let many = with(|r| {
            r.sampling.seed = Some(7);
            r.sampling.dry = Dry { multiplier: 0.5, ..Dry::default() };
            r.ignore_end = true;
            r.cache.read = false;
            r.sampling.logit_bias = vec![LogitBias { token: 5, bias: f32::NEG_INFINITY }];
        });
        let llama = written("llama-server", &many).unwrap();
        assert_eq!((&llama["seed"], &llama["ignore_eos"]), (&json!(7), &json!(true)));
        assert_eq!((&llama["dry_multiplier"], &llama["dry_base"]), (&json!(0.5), &json!(1.75)));
        assert_eq!(llama["cache_prompt"], json!(false));
        assert_eq!(llama["logit_bias"], json!({"5": -100.0}));
        assert_eq!(llama.get("dry_penalty_last_n"), None);
        assert_eq!(
            written("tabby", &with(|r| r.ignore_end = true)).unwrap()["ban_eos_token"],
            true
        );
    }

    #[test]
    fn what_would_change_the_answer_and_has_no_place_is_refused_by_name() {
        let refused = |profile: &str, request: &Request| {
            let failure = written(profile, request).unwrap_err();
            match failure.cause {
                Some(Cause::Unsupported(field)) => field,
                _ => panic!("{failure}"),
            }
        };
        assert_eq!(refused("generic", &with(|r| r.sampling.top_k = 7)), "top_k");
        assert_eq!(refused("generic", &with(|r| r.sampling.min_p = 0.1)), "min_p");
        assert_eq!(refused("vllm", &with(|r| r.sampling.mirostat.version = 2)), "mirostat");
        assert_eq!(refused("sglang", &with(|r| r.cache.salt = Some("a".into()))), "cache_salt");
        let bound = with(|r| r.limits.max_thinking_tokens = Some(9));
        assert_eq!(refused("vllm", &bound), "max_thinking_tokens");
        // What a dialect fills in is no wish.
        assert!(written("generic", &Request::prompt("hi")).is_ok());
    }

    #[test]
    fn what_is_out_of_a_servers_range_is_refused() {
        let says = |profile, request: &Request| written(profile, request).unwrap_err().message;
        let hot = with(|r| r.sampling.temperature = 3.0);
        assert_eq!(says("generic", &hot), "temperature must be between 0 and 2 for generic, not 3");
        assert!(written("vllm", &hot).is_ok());
        let far = with(|r| r.sampling.seed = Some(1 << 40));
        assert!(says("llama-server", &far).starts_with("seed must be"));
        let none = with(|r| r.sampling.top_p = 0.0);
        assert!(says("vllm", &none).starts_with("top_p must be"));
        let bias = with(|r| r.sampling.logit_bias = vec![LogitBias { token: 1, bias: 200.0 }]);
        assert!(says("generic", &bias).starts_with("logit_bias must be"));
    }
}
