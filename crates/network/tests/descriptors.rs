//! A published port in a process that has no file descriptors left. What bounds them is the whole process's, so that this test has
//! one of its own.

use std::fs::File;
use std::time::Duration;

use network::{Forward, Listen, Protocol};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::time::TimeValLike;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::{sleep, timeout};

fn processor_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let milliseconds = (usage.user_time() + usage.system_time()).num_milliseconds();
    Duration::from_millis(milliseconds as u64)
}

#[tokio::test]
async fn clients_wait_for_descriptors_and_nothing_spins() {
    let container = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = Listen {
        protocol: Protocol::Tcp,
        address: "127.0.0.1".parse().unwrap(),
        port: 0,
    };
    let target = container.local_addr().unwrap();
    let forward = Forward::open(&listen, target).await.unwrap();
    let client = TcpSocket::new_v4().unwrap();

    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 64.min(hard), hard).unwrap();
    let mut taken: Vec<File> = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
    }
    let address = ([127, 0, 0, 1], forward.port()).into();
    let mut client = client.connect(address).await.unwrap();
    client.write_all(b"x").await.unwrap();

    let before = processor_time();
    sleep(Duration::from_millis(600)).await;
    let spent = processor_time() - before;
    assert!(spent < Duration::from_millis(150), "{spent:?} of 600 ms");

    taken.clear();
    let served = async {
        let (mut stream, _) = container.accept().await.unwrap();
        let byte = stream.read_u8().await.unwrap();
        stream.write_u8(byte).await.unwrap();
        client.read_u8().await.unwrap()
    };
    assert_eq!(timeout(Duration::from_secs(2), served).await.unwrap(), b'x');
}
