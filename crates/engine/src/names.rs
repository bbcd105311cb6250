//! Names of containers.

use crate::ids::random;
use crate::{EngineError, Result};

const ADJECTIVES: &[&str] = &[
    "amber", "ample", "arctic", "autumn", "balmy", "bold", "brisk", "bronze", "calm", "candid", "cedar",
    "clear", "coastal", "copper", "coral", "crisp", "dapper", "dawn", "deep", "deft", "distant", "eager",
    "early", "fair", "fleet", "fond", "fresh", "gentle", "gilded", "glad", "golden", "grand", "hardy",
    "hazel", "honest", "humble", "ivory", "jade", "keen", "kind", "lively", "lone", "lucid", "lunar",
    "mellow", "merry", "misty", "modest", "nimble", "noble", "northern", "olive", "patient", "placid",
    "plucky", "polar", "proud", "quick", "quiet", "rapid", "ready", "regal", "rustic", "sandy", "serene",
    "sharp", "silent", "silver", "sleek", "snowy", "solar", "solid", "spry", "steady", "stellar", "sturdy",
    "sunny", "swift", "tidal", "tidy", "tranquil", "trusty", "upbeat", "valiant", "velvet", "vernal",
    "vivid", "warm", "wild", "windy", "wise", "witty", "young", "zesty",
];

const NAMES: &[&str] = &[
    "albatross",
    "anchor",
    "atoll",
    "barge",
    "bay",
    "beacon",
    "binnacle",
    "bollard",
    "boom",
    "bosun",
    "bowsprit",
    "breeze",
    "brig",
    "buoy",
    "cape",
    "capstan",
    "caravel",
    "catamaran",
    "channel",
    "clipper",
    "compass",
    "coracle",
    "corvette",
    "cove",
    "current",
    "cutter",
    "davit",
    "delta",
    "dhow",
    "dinghy",
    "dock",
    "dolphin",
    "dory",
    "drifter",
    "estuary",
    "ferry",
    "fjord",
    "flotilla",
    "frigate",
    "galleon",
    "galley",
    "gannet",
    "gull",
    "harbor",
    "haven",
    "hawser",
    "heron",
    "hoy",
    "inlet",
    "island",
    "jetty",
    "junk",
    "kayak",
    "keel",
    "ketch",
    "lagoon",
    "lantern",
    "launch",
    "lighthouse",
    "lugger",
    "mainsail",
    "mariner",
    "marlin",
    "mast",
    "narwhal",
    "oar",
    "orca",
    "osprey",
    "outrigger",
    "packet",
    "pelican",
    "petrel",
    "pier",
    "pilot",
    "pinnace",
    "port",
    "prow",
    "puffin",
    "quay",
    "raft",
    "reef",
    "rigging",
    "rudder",
    "sail",
    "schooner",
    "seal",
    "sextant",
    "shallop",
    "shoal",
    "skiff",
    "skipper",
    "sloop",
    "sound",
    "spar",
    "spinnaker",
    "squall",
    "starboard",
    "steamer",
    "strait",
    "tender",
    "tern",
    "tide",
    "tiller",
    "trawler",
    "tug",
    "voyage",
    "wake",
    "walrus",
    "wave",
    "whaler",
    "wharf",
    "wherry",
    "yacht",
    "yawl",
];

/// Makes up names until one is `free`; a few tries in, they get a number.
pub(crate) fn make_up(free: impl Fn(&str) -> bool) -> Result<String> {
    for attempt in 0..u32::MAX {
        let random = u64::from_le_bytes(random::<8>().map_err(EngineError::io("read", "random numbers"))?);
        let adjective = ADJECTIVES[(random % ADJECTIVES.len() as u64) as usize];
        let noun = NAMES[((random >> 32) % NAMES.len() as u64) as usize];
        let name = match attempt {
            0..=4 => format!("{adjective}_{noun}"),
            _ => format!("{adjective}_{noun}{}", (random >> 16) & 0xffff),
        };
        if free(&name) {
            return Ok(name);
        }
    }
    Err(EngineError::Internal(
        "every made-up container name is in use".into(),
    ))
}

/// The name without the slash that clients may put in front, if it is one.
pub(crate) fn check(name: &str) -> Result<&str> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let mut characters = bare.bytes();
    let valid = characters
        .next()
        .is_some_and(|first| first.is_ascii_alphanumeric())
        && bare.len() > 1
        && characters.all(|c| c.is_ascii_alphanumeric() || b"_.-".contains(&c));
    if valid {
        return Ok(bare);
    }
    Err(EngineError::Invalid(format!(
        "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    )))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_made_up_name_is_a_valid_one_that_is_free() {
        let refusals = Cell::new(7);
        let name = make_up(|_| {
            refusals.set(refusals.get() - 1);
            refusals.get() == 0
        })
        .unwrap();
        assert_eq!(check(&name).unwrap(), name);
        assert!(name.contains('_'));
    }

    #[test]
    fn names_that_docker_refuses_are_refused() {
        for name in ["", "a", "-a", "a b", "a/b", "ä1", "_x"] {
            assert!(check(name).is_err(), "{name}");
        }
        assert_eq!(check("/web-1").unwrap(), "web-1");
    }
}
