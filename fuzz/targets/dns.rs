//! A message to the name server, behind its length in one byte, and what a server outside says to it: an answer that fits in a
//! packet, belongs to the message, and tells no address that is denied.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((length, rest)) = input.split_first() else {
        return;
    };
    let (message, answered) = rest.split_at(rest.len().min(usize::from(*length)));
    if let Some(answer) = network::dns::fuzzing::answer(message, answered) {
        assert!((12..=1232).contains(&answer.len()), "{}", answer.len());
        assert_eq!(answer[..2], message[..2]);
        assert_eq!(answer[2] & 0x80, 0x80, "it is no answer");
    }
});
