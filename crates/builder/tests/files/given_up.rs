//! Work that nobody waits for any more, and builds that take too long.

use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use builder::{
    BuildError, CopyError, CopyOptions, GitError, GitOptions, LayerTree, LimitOwner, TimeLimit, TreeError,
    copy, resolve_git, source_digest,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::solve::{PATIENCE, Place, context};
use crate::support::{Archive, Stage, one_file, source, to};

/// Takes what is written, and gives up behind so many bytes.
struct GivingUp {
    token: CancellationToken,
    after: usize,
    written: usize,
}

impl Write for GivingUp {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written += bytes.len();
        if self.written >= self.after {
            self.token.cancel();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_copy_ends_within_a_file_and_between_files() {
    let large = one_file("large", &vec![7; 8 << 20]);
    let mut many = Archive::new();
    for number in 0..20_000 {
        many = many.file(&format!("many/{number}"), "");
    }
    let many = many.context();
    for (tree, path) in [(&large, "large"), (&many, "many")] {
        let token = CancellationToken::new();
        let options = CopyOptions {
            token: token.clone(),
            ..to("/x/")
        };
        let mut output = GivingUp {
            token,
            after: 1 << 20,
            written: 0,
        };
        let folder = tempfile::tempdir().unwrap();
        let copied = copy(
            &LayerTree::default(),
            &[source(tree, path)],
            &options,
            folder.path(),
            &mut output,
        );
        assert!(
            matches!(copied, Err(CopyError::Cancelled(_))),
            "{path}: {copied:?}"
        );
        assert!(output.written < 2 << 20, "{path}: {}", output.written);
    }
}

#[test]
fn neither_a_digest_nor_an_archive_is_read_for_nobody() {
    let options = CopyOptions::to(b"/x/", to("/").times);
    options.token.cancel();
    let mut stage = Stage::new();
    stage.add(&Archive::new().file("file", "content").tar());
    let digest = source_digest(&[source(&stage.tree(), "file")], &options);
    assert!(
        matches!(digest, Err(CopyError::Tree(TreeError::Cancelled(_)))),
        "{digest:?}"
    );
    let archive = one_file("a.tar", &Archive::new().file("file", "content").tar());
    let mut archive = source(&archive, "a.tar");
    archive.unpack = true;
    let folder = tempfile::tempdir().unwrap();
    let copied = copy(&stage.tree(), &[archive], &options, folder.path(), Vec::new());
    assert!(matches!(copied, Err(CopyError::Cancelled(_))), "{copied:?}");
}

/// A server that never answers: its URL, when somebody has come, and when he has gone.
fn silent_server() -> (String, oneshot::Receiver<()>, oneshot::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("git://{}/x.git", listener.local_addr().unwrap());
    let (came, come) = oneshot::channel();
    let (left, gone) = oneshot::channel();
    thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        came.send(()).unwrap();
        // Its question, and its end, which may be a hard one.
        let _ = connection.read_to_end(&mut Vec::new());
        // The test may have failed.
        let _ = left.send(());
    });
    (url, come, gone)
}

#[tokio::test]
async fn git_is_ended() {
    let (url, come, gone) = silent_server();
    let options = GitOptions::default();
    let token = options.token.clone();
    let resolving = tokio::task::spawn_blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        resolve_git(&url.parse().unwrap(), &options, folder.path())
    });
    come.await.unwrap();
    token.cancel();
    let resolved = tokio::time::timeout(PATIENCE, resolving).await;
    let error = resolved.expect("git goes on").unwrap().unwrap_err();
    assert!(matches!(error, GitError::Cancelled(_)), "{error}");
    tokio::time::timeout(PATIENCE, gone)
        .await
        .expect("git goes on")
        .unwrap();
}

#[tokio::test]
async fn a_build_that_is_given_up_ends_git() {
    let place = Place::new();
    let (url, come, gone) = silent_server();
    let (sender, _events) = mpsc::channel(16);
    let text = format!("FROM scratch\nADD {url} /\n");
    let (builder, request) = (place.builder.clone(), place.request(&text, &context()));
    let task = tokio::spawn(async move { builder.build(request, sender).await.map(drop) });
    come.await.unwrap();
    task.abort();
    tokio::time::timeout(PATIENCE, gone)
        .await
        .expect("git goes on")
        .unwrap();
}

#[tokio::test]
async fn a_build_that_is_given_up_stops_its_commands() {
    let place = Place::new();
    // Nobody needs to hear what a build tells for it to go on.
    let (sender, _events) = mpsc::channel(16);
    let (builder, request) = (
        place.builder.clone(),
        place.request("FROM base\nRUN hang\n", &context()),
    );
    let task = tokio::spawn(async move { builder.build(request, sender).await.map(drop) });
    place.host.until_running(1).await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    // The stages are tasks of their own, which the runtime ends when it comes to them.
    place.host.until_running(0).await;
}

// The clock goes on only when nothing is left to be done.
#[tokio::test(start_paused = true)]
async fn a_build_that_takes_too_long_tells_at_which_step_and_keeps_what_was_finished() {
    let place = Place::new();
    // The step that waits for the other stage began first.
    let text = "FROM base AS slow\nCOPY a /a\nRUN hang /x\nFROM scratch\nCOPY --from=slow /x /\n";
    let mut request = place.request(text, &context());
    request.time_limit = Some(TimeLimit {
        time: Duration::from_secs(5400),
        owner: LimitOwner::Request,
    });
    let (built, events) = place.run(request).await;
    let error = built.unwrap_err();
    place.host.until_running(0).await;
    assert_eq!(error.span().unwrap().start.line, 3);
    assert_eq!(
        error.to_string(),
        "the build was given up after 1h 30m, its limit of time: it had been at step 5/7 (RUN hang /x) for 1h 30m; \
         give it more with --timeout"
    );
    assert!(matches!(error, BuildError::At { .. }));
    let steps = events
        .iter()
        .filter(|event| matches!(event, builder::Event::Step { .. }));
    assert_eq!(steps.count(), 7, "what other stages tell is not lost");
    let text = "FROM base\nCOPY a /a\nRUN make /x\n";
    assert_eq!(place.build(text, &context()).await.1, 2);
}
