//! The entropy device, driven as a driver would, and as one should not.

use vm_memory::{Bytes, GuestAddress};
use vm_spec::DeviceSpec;

use super::driver::{DATA, Driver, NEXT, WRITE};
use super::{spec, start};

#[test]
fn buffers_are_filled_and_two_requests_differ() {
    let bench = start(spec(vec![DeviceSpec::Rng]));
    let mut driver = Driver::started(&bench.guest, 0);
    let mut fetch = || {
        assert_eq!(
            driver.submit(&[(DATA, 16, WRITE | NEXT, 1), (DATA + 16, 16, WRITE, 0)]),
            32
        );
        driver.memory().read_obj::<[u8; 32]>(GuestAddress(DATA)).unwrap()
    };
    let (first, second) = (fetch(), fetch());
    assert_ne!(first, second);
    assert_ne!(first, [0; 32]);
}

#[test]
fn hostile_chains_are_returned_and_the_device_goes_on() {
    let bench = start(spec(vec![DeviceSpec::Rng]));
    let mut driver = Driver::started(&bench.guest, 0);
    let chains = [
        ("nothing to write to", vec![(DATA, 64, 0, 0)], 0),
        ("an empty buffer", vec![(DATA, 0, WRITE, 0)], 0),
        ("no memory", vec![(0x7fff_ffff_f000, 64, WRITE, 0)], 0),
        ("the end of the address space", vec![(u64::MAX, 64, WRITE, 0)], 0),
        ("a huge buffer", vec![(DATA, u32::MAX, WRITE, 0)], 4096),
        ("a loop", vec![(DATA, 64, WRITE | NEXT, 0)], 64 * 16),
    ];
    for (what, chain, written) in chains {
        assert_eq!(driver.submit(&chain), written, "{what}");
        assert_eq!(driver.submit(&[(DATA, 64, WRITE, 0)]), 64, "after {what}");
    }
}
