//! The catalogue, held against the engine's own table of architectures.

use oprel_hub::catalog::Catalog;

#[test]
fn what_the_catalogue_calls_native_is_what_the_engine_runs() {
    let supported = oprel_models::supported();
    for alias in Catalog::built_in().aliases() {
        let runs = supported.contains(&alias.architecture.as_str());
        assert_eq!(alias.native, runs, "{} is of architecture {}", alias.name, alias.architecture);
    }
}
