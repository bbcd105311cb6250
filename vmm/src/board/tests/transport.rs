//! The registers, read and written in ways the specification allows, and in others.

use vm_spec::DeviceSpec;

use super::driver::{
    ACKNOWLEDGE_DRIVER, DATA, DRIVER_OK, Driver, FEATURES_OK, INTERRUPT_ACK, INTERRUPT_STATUS, NEEDS_RESET,
    QUEUE_NUM, QUEUE_READY, QUEUE_SEL, STATUS, WRITE,
};
use super::{Bench, disk, spec, start};
use crate::arch::layout;

fn bench() -> Bench {
    start(spec(vec![DeviceSpec::Rng]))
}

#[test]
fn a_device_introduces_itself() {
    let bench = bench();
    let driver = Driver::new(&bench.guest, 0);
    assert_eq!(
        (driver.read(0x00), driver.read(0x04), driver.read(0x08)),
        (0x7472_6976, 2, 4)
    );
    assert_eq!(driver.read(0x34), 64, "largest size of queue 0");
    driver.write(QUEUE_SEL, 1);
    assert_eq!(driver.read(0x34), 0, "no queue 1");
    assert_eq!(
        (driver.read(0xb0), driver.read(0xb4)),
        (u32::MAX, u32::MAX),
        "no shared memory"
    );
    assert_eq!(driver.features() & 1 << 32, 1 << 32, "version 1");
}

#[test]
fn accesses_that_are_no_words_read_parts_of_them_and_change_nothing() {
    let bench = bench();
    let base = layout::mmio_address(0);
    assert_eq!(bench.guest.read::<1>(base), *b"v");
    assert_eq!(bench.guest.read::<2>(base + 1), *b"ir");
    assert_eq!(bench.guest.read::<8>(base), *b"virt\x02\0\0\0");
    assert_eq!(
        bench.guest.read::<8>(base + 0xffc),
        [0; 8],
        "across the end of the page"
    );
    for data in [&[1][..], &[1, 0], &[1, 0, 0, 0, 0, 0, 0, 0]] {
        bench.guest.write(base + STATUS, data);
    }
    assert_eq!(Driver::new(&bench.guest, 0).read(STATUS), 0);
}

#[test]
fn features_that_were_not_offered_or_no_version_1_are_refused() {
    let bench = bench();
    let driver = Driver::new(&bench.guest, 0);
    let offered = driver.features();
    assert!(!driver.negotiate(offered | 1 << 40));
    assert!(!driver.negotiate(offered & !(1 << 32)));
    assert!(driver.negotiate(1 << 32));
}

#[test]
fn a_driver_that_skips_steps_gets_nowhere() {
    let bench = bench();
    let driver = Driver::new(&bench.guest, 0);
    driver.set_up_queue(DATA, DATA + 0x1000, DATA + 0x2000);
    assert_eq!(driver.read(QUEUE_READY), 0, "no queue before FEATURES_OK");
    driver.write(STATUS, ACKNOWLEDGE_DRIVER | DRIVER_OK);
    assert_eq!(
        driver.read(STATUS),
        ACKNOWLEDGE_DRIVER,
        "no DRIVER_OK before FEATURES_OK"
    );
    assert!(driver.negotiate(1 << 32));
    driver.write(STATUS, 1);
    assert_eq!(
        driver.read(STATUS),
        ACKNOWLEDGE_DRIVER | FEATURES_OK,
        "bits are not taken back"
    );
}

#[test]
fn a_queue_that_does_not_lie_in_memory_fails_the_device_until_it_is_reset() {
    let bench = bench();
    let mut driver = Driver::new(&bench.guest, 0);
    for (table, avail, used) in [
        (0x7fff_ffff_f000, DATA, DATA + 0x1000),
        (DATA, (64 << 20) - 2, DATA + 0x1000),
        (DATA, DATA + 0x1000, u64::MAX - 3),
    ] {
        assert!(driver.negotiate(driver.features()));
        driver.set_up_queue(table, avail, used);
        driver.write(STATUS, ACKNOWLEDGE_DRIVER | FEATURES_OK | DRIVER_OK);
        assert_eq!(
            driver.read(STATUS) & NEEDS_RESET,
            NEEDS_RESET,
            "{table:#x} {avail:#x} {used:#x}"
        );
        assert_eq!(driver.read(INTERRUPT_STATUS), 2, "the driver is told");
        driver.write(INTERRUPT_ACK, 2);
        assert_eq!(driver.read(INTERRUPT_STATUS), 0);
    }
    driver.start();
    assert_eq!(driver.submit(&[(DATA, 8, WRITE, 0)]), 8);
}

#[test]
fn a_change_of_the_device_is_acknowledged_together_with_used_buffers() {
    let bench = bench();
    let mut driver = Driver::started(&bench.guest, 0);
    assert_eq!(driver.submit(&[(DATA, 8, WRITE, 0)]), 8);
    assert_eq!(driver.read(INTERRUPT_STATUS), 1, "may be read again");
    // No driver gets as far ahead of itself.
    driver.set_available(1000);
    driver.kick();
    driver.wait_for_status(NEEDS_RESET);
    assert_eq!(driver.read(INTERRUPT_STATUS), 3);
    driver.write(INTERRUPT_ACK, 3);
    assert_eq!(driver.read(INTERRUPT_STATUS), 0);
}

#[test]
fn sizes_that_are_no_queue_sizes_leave_the_queue_as_it_was() {
    let bench = bench();
    let driver = Driver::new(&bench.guest, 0);
    assert!(driver.negotiate(1 << 32));
    for size in [0, 3, 128, 1 << 16, u32::MAX] {
        driver.write(QUEUE_NUM, size);
    }
    driver.write(QUEUE_SEL, u32::MAX);
    driver.write(QUEUE_NUM, 8);
    driver.write(QUEUE_READY, 1);
    assert_eq!(driver.read(QUEUE_READY), 0);
}

#[test]
fn a_reset_ends_all_and_a_new_driver_can_begin() {
    let bench = bench();
    let mut driver = Driver::started(&bench.guest, 0);
    assert_eq!(driver.submit(&[(DATA, 8, WRITE, 0)]), 8);
    driver.write(STATUS, 0);
    assert_eq!(
        (
            driver.read(STATUS),
            driver.read(INTERRUPT_STATUS),
            driver.read(QUEUE_READY)
        ),
        (0, 0, 0)
    );
    driver.kick();
    driver.start();
    assert_eq!(driver.submit(&[(DATA, 8, WRITE, 0)]), 8);
}

#[test]
fn a_paused_device_serves_nothing_and_a_resumed_one_what_has_come() {
    let mut bench = bench();
    let mut driver = Driver::started(&bench.guest, 0);
    bench.microvm.pause();
    driver.make_available(&[(DATA, 8, WRITE, 0)]);
    // A doorbell, which needs no vCPU.
    driver.kick();
    assert!(!bench.guest.irq_is_pending(layout::DEVICE_IRQS[0]));
    assert_eq!(driver.pending(), 0);
    bench.microvm.resume();
    assert_eq!(driver.complete(), 8);
}

#[test]
fn a_saved_device_goes_on_in_another_machine() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(1 << 20).unwrap();
    let devices = || vec![disk(&file, false), DeviceSpec::Rng];
    let mut old = start(spec(devices()));
    let mut driver = Driver::started(&old.guest, 1);
    assert_eq!(driver.submit(&[(DATA, 8, WRITE, 0)]), 8);
    old.microvm.pause();
    let states: Vec<String> = old
        .microvm
        .transports
        .iter()
        .map(|transport| serde_json::to_string(&super::super::lock(transport).save().unwrap()).unwrap())
        .collect();

    let mut new = start(spec(devices()));
    new.microvm.pause();
    for (transport, state) in new.microvm.transports.iter().zip(&states) {
        let mut transport = super::super::lock(transport);
        transport.restore(serde_json::from_str(state).unwrap()).unwrap();
        assert_eq!(serde_json::to_string(&transport.save().unwrap()).unwrap(), *state);
    }
    let mut driver = Driver::continued(&new.guest, 1, &driver);
    new.microvm.resume();
    driver.wait_for_irq();
    assert_eq!(driver.submit(&[(DATA, 8, WRITE, 0)]), 8);
}

#[test]
fn states_of_other_devices_and_damaged_ones_are_refused() {
    let mut bench = start(spec(vec![disk(&tempfile_of(1 << 20), false), DeviceSpec::Rng]));
    let other = start(spec(vec![disk(&tempfile_of(2 << 20), false)]));
    bench.microvm.pause();
    let mut blk = super::super::lock(&bench.microvm.transports[0]);
    let rng = super::super::lock(&bench.microvm.transports[1]).save().unwrap();
    assert!(blk.restore(rng).is_err(), "another kind");
    let larger = super::super::lock(&other.microvm.transports[0]).save().unwrap();
    assert!(blk.restore(larger).is_err(), "another size");
    let mut damaged = blk.save().unwrap();
    damaged.queues[0].desc_table = 3;
    assert!(blk.restore(damaged).is_err(), "a table that is not aligned");
    let mut damaged = blk.save().unwrap();
    damaged.queues.clear();
    assert!(blk.restore(damaged).is_err(), "no queues");
}

fn tempfile_of(len: u64) -> std::fs::File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(len).unwrap();
    file
}
