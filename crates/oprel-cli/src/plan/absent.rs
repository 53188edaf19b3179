//! A plan for a model that is not here: which of the files that its repository offers to fetch.

use oprel::OprelError;
use oprel_api::Failure;
use oprel_hub::catalog::{Alias, Catalog};
use oprel_hub::{Access, HubRef, Reference, Source, Trouble};
use oprel_telemetry::{Host, Rates};
use oprel_tools::plan::{Candidate, Fits, Offered, offered};
use serde_json::json;

use crate::args::Plan;
use crate::columns::{bytes, table};
use crate::commands::{most_memory, print};
use crate::outcome::{harmless, tell};
use crate::transfer::wait;

/// Tells what to fetch of a repository of the hub; `absent` is why there is no file.
pub(super) fn run(args: &Plan, name: &str, absent: OprelError) -> anyhow::Result<()> {
    let catalog = oprel::catalog()?;
    let Some((hub, alias)) = repository(name, &catalog)? else {
        return Err(hinted(absent, name).into());
    };
    let candidates = candidates(&hub, alias)?;
    let host = Host::read();
    let threads = args.size.threads.unwrap_or_else(|| host.suited_threads());
    let read = match args.measure {
        true => Rates::measure(threads, host.memory.free_bytes).map(|rates| rates.read),
        false => None,
    };
    let most = most_memory()?;
    let offered = offered(&candidates, (&host, most), (read, active(&hub.repository)));
    let best = offered.best.map(|best| &offered.offers[best].quant);
    let command = best.map(|quant| command(name, &hub, quant));
    if args.json {
        return print(&serde_json::to_string_pretty(&json!({
            "model": name, "repository": hub.repository, "free_bytes": host.memory.free_bytes,
            "offers": offered.offers, "recommended": best, "reasons": offered.reasons, "command": command,
        }))?);
    }
    say(name, &hub, &offered)?;
    match command {
        Some(command) => print(&harmless(&format!("\n{command}"))),
        None => print("\nlook for a smaller model: `oprel list-models`"),
    }
}

/// The repository that a name means, and the alias it is of the catalogue.
fn repository<'a>(
    name: &str,
    catalog: &'a Catalog,
) -> Result<Option<(HubRef, Option<&'a Alias>)>, OprelError> {
    let store = crate::store::open(Access::Read)?;
    let reference = Reference::resolve(name, catalog, &store)?;
    let Source::Hub(hub) = reference.source else { return Ok(None) };
    let alias = catalog.alias(name).filter(|alias| alias.repository == hub.repository);
    Ok(Some((hub, alias)))
}

/// What a name of a registry is fetched by.
fn hinted(absent: OprelError, name: &str) -> OprelError {
    match absent {
        OprelError::ModelNotFound { message, source, .. } => OprelError::ModelNotFound {
            message,
            hint: Some(format!("fetch it first: oprel pull {name}")),
            source,
        },
        other => other,
    }
}

/// What the hub offers; of an alias what the catalogue knows, where the hub does not answer.
fn candidates(hub: &HubRef, alias: Option<&Alias>) -> anyhow::Result<Vec<Candidate>> {
    let fetcher = oprel::fetcher()?;
    let offers = wait(async { fetcher.offers(&hub.repository).await })?;
    let candidate = |(quant, bytes): (String, u64)| Candidate { name: quant.clone(), quant, bytes };
    match (offers, alias.filter(|alias| alias.about_bytes > 0)) {
        (Ok((_, offers)), _) => Ok(offers.into_iter().map(candidate).collect()),
        (Err(error), Some(alias)) => {
            tell(&format!("{error}; the size is what the catalogue says"));
            let quant = oprel_hub::quant_of(&alias.file.replace('*', "-"));
            Ok(vec![candidate((quant.unwrap_or_default(), alias.about_bytes))])
        }
        (Err(error), None) => Err(OprelError::from(Failure::from(Trouble::from(error))).into()),
    }
}

/// The part of its weights that a token reads, as names such as `30B-A3B` tell.
fn active(repository: &str) -> f64 {
    let parts: Vec<&str> = repository.split(['-', '_', '/']).collect();
    let billions = |part: &str| {
        let number = part.strip_suffix(['B', 'b'])?;
        number.parse::<f64>().ok().filter(|n| *n > 0.0)
    };
    let pair = parts.windows(2).find_map(|pair| {
        let used = billions(pair[1].strip_prefix(['A', 'a'])?)?;
        Some((used / billions(pair[0])?).min(1.0))
    });
    pair.unwrap_or(1.0)
}

/// What fetches a quant: by the name that was typed where that means this one.
fn command(name: &str, hub: &HubRef, quant: &str) -> String {
    let picked = hub.pick.as_deref().map(|pick| pick.replace('*', "-"));
    let meant = picked.and_then(|pick| oprel_hub::quant_of(&pick).or(Some(pick)));
    match meant {
        Some(meant) if meant.eq_ignore_ascii_case(quant) => format!("oprel pull {name}"),
        _ => format!("oprel pull hf.co/{}:{quant}", hub.repository),
    }
}

fn say(name: &str, hub: &HubRef, offered: &Offered) -> anyhow::Result<()> {
    print(&harmless(&format!("'{name}' is not here; hf.co/{} offers\n", hub.repository)))?;
    let rows = offered.offers.iter().enumerate().map(|(i, offer)| {
        let fits = match offer.fits {
            Fits::Yes => "it fits",
            Fits::Tight => "just",
            Fits::No => "no",
            Fits::Unknown => "?",
        };
        let best = if offered.best == Some(i) { "<- fetch this" } else { "" };
        let pace = offer.tok_s.map_or(String::new(), |pace| format!("{pace:.1}/s"));
        let needs = bytes(offer.needed_bytes);
        [harmless(&offer.quant), bytes(offer.bytes), needs, fits.into(), pace, best.into()]
    });
    let speed = if offered.offers.iter().any(|o| o.tok_s.is_some()) { "TOKENS" } else { "" };
    let heads = ["QUANT", "SIZE", "NEEDS ABOUT", "FITS", speed, ""].map(String::from);
    table(std::iter::once(heads).chain(rows).collect())?;
    print("")?;
    offered.reasons.iter().try_for_each(|reason| print(&harmless(&format!("- {reason}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_which_part_of_the_weights_is_read() {
        assert!((active("unsloth/Qwen3-30B-A3B-GGUF") - 0.1).abs() < 1e-9);
        for name in ["a/Llama-3.2-1B-GGUF", "a/x-A3B", "a/0B-A3B", ""] {
            assert!((active(name) - 1.0).abs() < 1e-9, "{name}");
        }
    }

    #[test]
    fn the_command_is_the_name_where_that_means_the_quant() {
        let hub = |pick: &str| HubRef { repository: "u/m".into(), pick: Some(pick.into()) };
        assert_eq!(command("m:1b", &hub("*Q4_K_M*.gguf"), "Q4_K_M"), "oprel pull m:1b");
        assert_eq!(command("m:1b", &hub("*Q4_K_M*.gguf"), "Q8_0"), "oprel pull hf.co/u/m:Q8_0");
        assert_eq!(command("hf.co/u/m:q8_0", &hub("q8_0"), "Q8_0"), "oprel pull hf.co/u/m:q8_0");
    }
}
