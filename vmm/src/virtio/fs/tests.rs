//! FUSE messages of a driver through real queues, with a real DAX window.

use std::fs::{self, File};
use std::io::Write;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vm_memory::{Bytes, GuestAddress};
use vm_spec::LayerFile;

use super::*;
use crate::memory::MemoryLayout;
use crate::virtio::driver::{Buffer, Driver};

const HIPRIO: usize = 0;
const REQUESTS: usize = 1;

/// Where a request and its reply lie in guest memory.
const REQUEST: u64 = 4 << 20;
const REPLY: u64 = 5 << 20;

const WINDOW: u64 = 8 << 20;

/// Opcodes.
const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const SETUPMAPPING: u32 = 48;
const REMOVEMAPPING: u32 = 49;

fn layers_spec(dir: &TempDir) -> LayersSpec {
    let path = dir.path().join("layer");
    if !path.exists() {
        let mut file = File::create(&path).unwrap();
        file.write_all(&[b'a'; 2 << 20]).unwrap();
        file.write_all(b"the second range").unwrap();
    }
    let files = vec![LayerFile {
        name: "layer".to_owned(),
        file: Resource::Path(path),
    }];
    LayersSpec {
        tag: "layers".to_owned(),
        files,
        dax_window_mib: WINDOW >> 20,
    }
}

/// A driver and the region that its device's window is.
fn driver(device: Fs) -> (Driver<Fs>, SharedRegion) {
    let mut layout = MemoryLayout::with_ram(16 << 20).unwrap();
    let window = layout.add_shared(WINDOW).unwrap();
    let memory = layout.finish().unwrap();
    (Driver::new(device, memory, Some(window.clone())), window)
}

/// The bytes of a request; its body is made of 64-bit fields, but for what `text` adds.
fn request(opcode: u32, node: u64, body: &[u64], text: &[u8]) -> Vec<u8> {
    let len = 40 + 8 * body.len() + text.len();
    let mut bytes = [len as u32, opcode].map(u32::to_le_bytes).concat();
    bytes.extend([7, node, 0, 1].map(u64::to_le_bytes).concat());
    bytes.extend(body.iter().flat_map(|field| field.to_le_bytes()));
    bytes.extend(text);
    bytes
}

/// Sends a request whose reply goes to `reply`; returns the error of the answer.
fn call_into(driver: &mut Driver<Fs>, bytes: &[u8], reply: u64, room: u32) -> (i32, u32) {
    driver.memory().write_slice(bytes, GuestAddress(REQUEST)).unwrap();
    let buffers = [
        Buffer {
            address: REQUEST,
            len: bytes.len() as u32,
            writable: false,
        },
        Buffer {
            address: REPLY,
            len: 16,
            writable: true,
        },
        Buffer {
            address: reply,
            len: room,
            writable: true,
        },
    ];
    let head = driver.offer(REQUESTS, &buffers);
    let (used, len) = driver.wait_used(REQUESTS);
    assert_eq!(used, head);
    let mut header = [0; 16];
    driver
        .memory()
        .read_slice(&mut header, GuestAddress(REPLY))
        .unwrap();
    assert_eq!(
        u32::from_le_bytes(header[..4].try_into().unwrap()),
        len,
        "the reply's own length"
    );
    (
        i32::from_le_bytes(header[4..8].try_into().unwrap()),
        len.saturating_sub(16),
    )
}

fn call(driver: &mut Driver<Fs>, bytes: &[u8]) -> Result<Vec<u8>, i32> {
    let (error, len) = call_into(driver, bytes, REPLY + 4096, 64 << 10);
    let mut body = vec![0; len as usize];
    driver
        .memory()
        .read_slice(&mut body, GuestAddress(REPLY + 4096))
        .unwrap();
    if error == 0 { Ok(body) } else { Err(-error) }
}

fn map(driver: &mut Driver<Fs>, file_offset: u64, window_offset: u64) -> Result<Vec<u8>, i32> {
    let body = [0, file_offset, 2 << 20, 2, window_offset];
    call(driver, &request(SETUPMAPPING, 2, &body, &[]))
}

fn window_bytes(driver: &Driver<Fs>, window: &SharedRegion, offset: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    driver
        .memory()
        .read_slice(&mut bytes, GuestAddress(window.gpa() + offset))
        .unwrap();
    bytes
}

#[test]
fn a_layer_is_looked_up_and_read() {
    let dir = tempfile::tempdir().unwrap();
    let (mut driver, _) = driver(Fs::layers(layers_spec(&dir)).unwrap());
    driver.activate();
    let entry = call(&mut driver, &request(LOOKUP, 1, &[], b"layer\0")).unwrap();
    assert_eq!(entry[..8], 2u64.to_le_bytes());
    let read = [0, 2 << 20, 100, 0, 0];
    assert_eq!(
        call(&mut driver, &request(READ, 2, &read, &[])).unwrap(),
        b"the second range"
    );
    assert_eq!(
        call(&mut driver, &request(GETATTR, 9, &[0, 0], &[])),
        Err(libc::ESTALE)
    );
    assert!(driver.interrupt.used_count() > 0);
}

#[test]
fn forget_is_taken_on_the_queue_for_it_and_not_answered() {
    let dir = tempfile::tempdir().unwrap();
    let (mut driver, _) = driver(Fs::layers(layers_spec(&dir)).unwrap());
    driver.activate();
    forget(&mut driver);
    assert_eq!(driver.wait_used(HIPRIO).1, 0);
}

#[test]
fn forgets_share_interrupts_and_the_last_is_told_of_too() {
    const MANY: usize = 40;
    let dir = tempfile::tempdir().unwrap();
    let (mut driver, _) = driver(Fs::layers(layers_spec(&dir)).unwrap());
    driver.activate();
    for count in [1, MANY] {
        let before = driver.interrupt.used_count();
        (0..count).for_each(|_| forget(&mut driver));
        (0..count).for_each(|_| assert_eq!(driver.wait_used(HIPRIO).1, 0));
        let deadline = Instant::now() + Duration::from_secs(10);
        // More than half of the queue's 64 is an interrupt at once, and what is left is another.
        let least = before + 1 + count / 32;
        while driver.interrupt.used_count() < least {
            assert!(Instant::now() < deadline, "the driver is not told of {count}");
            std::thread::yield_now();
        }
        assert!(driver.interrupt.used_count() < before + 1 + count.div_ceil(2));
    }
}

/// Has the driver forget the first file.
fn forget(driver: &mut Driver<Fs>) {
    let bytes = request(FORGET, 2, &[1], &[]);
    driver
        .memory()
        .write_slice(&bytes, GuestAddress(REQUEST))
        .unwrap();
    driver.offer(
        HIPRIO,
        &[Buffer {
            address: REQUEST,
            len: bytes.len() as u32,
            writable: false,
        }],
    );
}

#[test]
fn requests_that_are_none_come_back_empty_and_the_device_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (mut driver, _) = driver(Fs::layers(layers_spec(&dir)).unwrap());
    driver.activate();
    let readable = |address, len| Buffer {
        address,
        len,
        writable: false,
    };
    let writable = |address, len| Buffer {
        address,
        len,
        writable: true,
    };
    for buffers in [
        vec![readable(REQUEST, 3)],
        vec![writable(REPLY, 4096)],
        vec![readable(1 << 50, 40), writable(REPLY, 4096)],
        vec![readable(REQUEST, u32::MAX), writable(REPLY, 4096)],
        vec![readable(0, 8 << 20), readable(0, 8 << 20), writable(REPLY, 4096)],
        vec![readable(REQUEST, 0), writable(REPLY, 0)],
    ] {
        driver.offer(REQUESTS, &buffers);
        assert_eq!(driver.wait_used(REQUESTS).1, 0, "{buffers:?}");
    }
    assert!(call(&mut driver, &request(LOOKUP, 1, &[], b"layer\0")).is_ok());
    assert_eq!(driver.interrupt.failed_count(), 0);
}

#[test]
fn the_window_shows_files_until_they_are_unmapped() {
    let dir = tempfile::tempdir().unwrap();
    let (mut driver, window) = driver(Fs::layers(layers_spec(&dir)).unwrap());
    driver.activate();
    assert_eq!(window_bytes(&driver, &window, 0), [0; 16]);
    map(&mut driver, 0, 2 << 20).unwrap();
    map(&mut driver, 2 << 20, 0).unwrap();
    assert_eq!(window_bytes(&driver, &window, 2 << 20), [b'a'; 16]);
    assert_eq!(&window_bytes(&driver, &window, 0), b"the second range");
    assert_eq!(
        window_bytes(&driver, &window, 16),
        [0; 16],
        "the rest of the last page"
    );
    assert_eq!(
        window_bytes(&driver, &window, 1 << 20),
        [0; 16],
        "beyond the file nothing faults"
    );

    // Whatever the guest writes there, the file does not change.
    driver
        .memory()
        .write_slice(b"scribble", GuestAddress(window.gpa()))
        .unwrap();
    assert!(
        fs::read(dir.path().join("layer"))
            .unwrap()
            .ends_with(b"the second range")
    );

    let remove = request(
        REMOVEMAPPING,
        2,
        &[],
        &[&[1, 0, 0, 0][..], &[0; 8], &(2u64 << 20).to_le_bytes()].concat(),
    );
    call(&mut driver, &remove).unwrap();
    assert_eq!(window_bytes(&driver, &window, 0), [0; 16]);
    assert_eq!(window_bytes(&driver, &window, 2 << 20), [b'a'; 16]);
}

#[test]
fn a_mapping_outside_the_window_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (mut driver, window) = driver(Fs::layers(layers_spec(&dir)).unwrap());
    driver.activate();
    for offset in [
        WINDOW,
        WINDOW + (2 << 20),
        1 << 40,
        u64::MAX - (2 << 20) + 1,
        4096,
    ] {
        assert_eq!(map(&mut driver, 0, offset), Err(libc::EINVAL), "{offset:#x}");
    }
    assert_eq!(map(&mut driver, 4096, 0), Err(libc::EINVAL));
    for offset in (0..WINDOW).step_by(2 << 20) {
        assert_eq!(window_bytes(&driver, &window, offset), [0; 16]);
    }
}

#[test]
fn a_device_without_a_window_maps_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let spec = LayersSpec {
        dax_window_mib: 0,
        ..layers_spec(&dir)
    };
    let device = Fs::layers(spec).unwrap();
    assert_eq!(device.identity().shared_memory, None);
    let memory = MemoryLayout::with_ram(16 << 20).unwrap().finish().unwrap();
    let mut driver = Driver::new(device, memory, None);
    driver.activate();
    assert_eq!(map(&mut driver, 0, 0), Err(libc::EINVAL));
}

#[test]
fn a_reply_may_go_to_the_window() {
    let dir = tempfile::tempdir().unwrap();
    let (mut driver, window) = driver(Fs::layers(layers_spec(&dir)).unwrap());
    driver.activate();
    map(&mut driver, 0, 0).unwrap();
    // The guest reads a file into memory that is a mapped file itself: it changes the guest's view alone.
    let read = request(READ, 2, &[0, 2 << 20, 16, 0, 0], &[]);
    assert_eq!(call_into(&mut driver, &read, window.gpa(), 16), (0, 16));
    assert_eq!(&window_bytes(&driver, &window, 0), b"the second range");
    assert!(fs::read(dir.path().join("layer")).unwrap().starts_with(b"aaaa"));
}

#[test]
fn a_restored_device_shows_in_the_window_what_was_mapped() {
    let dir = tempfile::tempdir().unwrap();
    let (mut driver, window) = driver(Fs::layers(layers_spec(&dir)).unwrap());
    driver.activate();
    map(&mut driver, 2 << 20, 4 << 20).unwrap();
    driver.quiesce();
    let state = driver.device.save().unwrap();
    window.unmap(0, WINDOW).unwrap();

    let mut restored = Fs::layers(layers_spec(&dir)).unwrap();
    restored.restore(state.clone()).unwrap();
    assert_eq!(restored.save().unwrap(), state);
    driver.replace_device(restored);
    driver.activate();
    assert_eq!(&window_bytes(&driver, &window, 4 << 20), b"the second range");

    driver.quiesce();
    driver.device.reset();
    assert_eq!(window_bytes(&driver, &window, 4 << 20), [0; 16]);
    let state = driver.device.save().unwrap();
    assert_eq!(state["layers"]["mappings"], serde_json::json!([]));
}

#[test]
fn damaged_state_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut device = Fs::layers(layers_spec(&dir)).unwrap();
    for state in [
        serde_json::json!(null),
        serde_json::json!({ "layers": {} }),
        serde_json::json!({ "folders": { "next-node": 1, "nodes": [], "handles": [] } }),
    ] {
        assert!(device.restore(state.clone()).is_err(), "{state}");
    }
    // Well-formed, but of mappings that cannot be: the driver sees that the device failed.
    let mapping = serde_json::json!({ "window-offset": WINDOW, "node": 2, "file-offset": 0 });
    let state =
        serde_json::json!({ "open-needless": false, "opendir-needless": false, "mappings": [mapping] });
    device.restore(serde_json::json!({ "layers": state })).unwrap();
    let (mut driver, window) = driver(device);
    let activation = Activation {
        features: 0,
        queues: Vec::new(),
        memory: driver.memory().clone(),
        interrupt: driver.interrupt.clone(),
        shared_memory: Some(window),
    };
    assert!(driver.device.activate(activation).is_err());
}

#[test]
fn folders_are_served_by_descriptor_and_by_path() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "content").unwrap();
    let folder = |name: &str, root| SharedFolder {
        name: name.to_owned(),
        root,
        read_only: false,
    };
    let fd = std::os::fd::IntoRawFd::into_raw_fd(File::open(dir.path()).unwrap());
    let folders = vec![
        folder("path", Resource::Path(dir.path().to_owned())),
        folder("fd", Resource::Fd(fd)),
        folder("alone", Resource::Path(dir.path().join("file"))),
    ];
    let device = Fs::folders(FoldersSpec {
        tag: "folders".to_owned(),
        folders,
    })
    .unwrap();
    let memory = MemoryLayout::with_ram(16 << 20).unwrap().finish().unwrap();
    let mut driver = Driver::new(device, memory, None);
    driver.activate();
    for path in [&["path", "file"][..], &["fd", "file"], &["alone"]] {
        let mut node = 1;
        for name in path {
            let entry = call(
                &mut driver,
                &request(LOOKUP, node, &[], format!("{name}\0").as_bytes()),
            )
            .unwrap();
            node = u64::from_le_bytes(entry[..8].try_into().unwrap());
        }
        let open = call(&mut driver, &request(OPEN, node, &[0], &[])).unwrap();
        let handle = u64::from_le_bytes(open[..8].try_into().unwrap());
        let read = request(READ, node, &[handle, 0, 100, 0, 0], &[]);
        assert_eq!(call(&mut driver, &read).unwrap(), b"content", "{path:?}");
    }
    let missing = folder("gone", Resource::Path(dir.path().join("gone")));
    let refused = Fs::folders(FoldersSpec {
        tag: "folders".to_owned(),
        folders: vec![missing],
    });
    assert!(matches!(refused, Err(FsError::Folder { .. })));
}

#[test]
fn the_configuration_space_holds_tag_and_number_of_queues() {
    let dir = tempfile::tempdir().unwrap();
    let device = Fs::layers(layers_spec(&dir)).unwrap();
    let mut config = [0xff; 44];
    device.read_config(0, &mut config);
    assert_eq!(&config[..8], b"layers\0\0");
    assert_eq!(config[8..36], [0; 28]);
    assert_eq!(config[36..], [1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(device.identity().shared_memory, Some(WINDOW));
}

#[test]
fn a_spec_that_makes_no_sense_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for tag in ["", "with\0nul", &"t".repeat(37)] {
        let spec = LayersSpec {
            tag: tag.to_owned(),
            ..layers_spec(&dir)
        };
        assert!(matches!(Fs::layers(spec), Err(FsError::Tag { .. })), "{tag:?}");
    }
    for mib in [1, 3, u64::MAX] {
        let spec = LayersSpec {
            dax_window_mib: mib,
            ..layers_spec(&dir)
        };
        assert!(matches!(Fs::layers(spec), Err(FsError::Window { .. })), "{mib}");
    }
}
