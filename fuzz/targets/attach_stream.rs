//! Streams of an attached client: what hull makes of any bytes does not depend on how they were cut, what the daemon frames comes
//! out as it went in, and both ends see the same detach keys in what is typed.
#![no_main]

use libfuzzer_sys::fuzz_target;

use demux::{Channel, Demux};
use escape::{DetachKeys, EscapeFilter};

#[allow(dead_code)]
#[path = "../../cli/src/stream/demux.rs"]
mod demux;
#[allow(dead_code)]
#[path = "../../cli/src/stream/escape.rs"]
mod escape;

/// Where input is cut, again and again; a text of keys; the input.
type Input<'a> = (Vec<u8>, &'a str, &'a [u8]);

fuzz_target!(|input: Input<'_>| {
    let (cuts, keys, bytes) = input;
    let pieces = cut(bytes, &cuts);
    let whole = split(&[bytes]);
    assert_eq!(split(&pieces), whole);
    assert!(whole.0.len() + whole.1.len() <= bytes.len());
    reassemble(&pieces, &cuts);
    detach(keys, &pieces);
});

fn cut<'a>(mut bytes: &'a [u8], cuts: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut cuts = cuts.iter().cycle();
    while !bytes.is_empty() {
        let length = cuts.next().map_or(bytes.len(), |cut| usize::from(*cut).max(1));
        let (piece, rest) = bytes.split_at(length.min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

/// Standard output, standard error, and how it ends: whole, cut, or as no such stream.
fn split(pieces: &[&[u8]]) -> (Vec<u8>, Vec<u8>, Option<bool>) {
    let (mut out, mut err, mut demux) = (Vec::new(), Vec::new(), Demux::default());
    for piece in pieces {
        let pushed = demux.push(piece, |channel, payload| {
            assert!(!payload.is_empty());
            match channel {
                Channel::Stdout => out.extend(payload),
                Channel::Stderr => err.extend(payload),
            }
            Ok(())
        });
        if pushed.is_err() {
            return (out, err, None);
        }
    }
    (out, err, Some(demux.is_complete()))
}

/// The pieces as output of a process, framed by the daemon and cut anew.
fn reassemble(pieces: &[&[u8]], cuts: &[u8]) {
    let (mut streams, mut framed) = ([Vec::new(), Vec::new()], Vec::new());
    for piece in pieces {
        let stderr = piece[0] & 1 == 1;
        streams[usize::from(stderr)].extend_from_slice(piece);
        framed.extend_from_slice(&docker_api::fuzzing::frame(stderr, piece));
    }
    let reversed: Vec<u8> = cuts.iter().rev().copied().collect();
    let [out, err] = streams;
    assert_eq!(split(&cut(&framed, &reversed)), (out, err, Some(true)));
}

fn detach(keys: &str, pieces: &[&[u8]]) {
    let own = keys.parse::<DetachKeys>().ok().map(|keys| {
        let (mut filter, mut passed) = (EscapeFilter::new(keys), Vec::new());
        let detached = pieces.iter().any(|piece| filter.filter(piece, &mut passed));
        (passed, detached)
    });
    assert_eq!(own, engine::fuzzing::typed(keys, pieces));
}
