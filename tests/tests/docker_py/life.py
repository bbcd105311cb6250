"""docker-py against the daemon that DOCKER_HOST names: what a program does with containers, images and volumes.

Each function whose name begins with `test_` is a test. Names of what they make begin with the prefix in PREFIX.
"""

import io
import os
import sys
import tarfile
import threading
import time
import traceback

import docker
from docker.errors import APIError, BuildError, ContainerError, ImageNotFound, NotFound

PREFIX = os.environ["PREFIX"]
UNTIL_TERM = 'trap "exit 3" TERM; echo ready; while :; do sleep 0.1; done'

client = docker.from_env(timeout=120)


def named(name):
    return f"{PREFIX}-{name}"


def expect_error(kind, status, words, call):
    """Calls, and checks with which error it fails."""
    try:
        call()
    except kind as error:
        assert error.status_code == status, f"status {error.status_code}, not {status}: {error}"
        assert words in error.explanation, f"{words!r} is not in {error.explanation!r}"
    else:
        raise AssertionError(f"no {kind.__name__} came")


def start(name, **options):
    """A container that ends with 3 when it is told to, and listens already."""
    container = client.containers.run(
        "busybox", ["sh", "-c", UNTIL_TERM], name=named(name), detach=True, labels={"prefix": PREFIX}, **options
    )
    for line in container.logs(stream=True, follow=True):
        assert line == b"ready\n", line
        return container


def archive(files):
    """A tar archive with these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def test_the_daemon_says_what_it_is():
    assert client.ping()
    assert client.version()["ApiVersion"]
    info = client.info()
    assert info["OSType"] == "linux" and info["NCPU"] > 0, info
    usage = client.df()
    assert usage["Images"] and "Containers" in usage and "Volumes" in usage, usage.keys()


def test_run_returns_the_output_and_raises_the_exit_code():
    assert client.containers.run("busybox", ["echo", "hello"], remove=True) == b"hello\n"
    assert client.containers.run("busybox", "cat /proc/self/comm", remove=True) == b"cat\n"
    both = client.containers.run("busybox", ["sh", "-c", "echo err >&2"], remove=True, stderr=True)
    assert both == b"err\n", both
    try:
        client.containers.run("busybox", ["sh", "-c", "echo gone wrong >&2; exit 7"], remove=True)
    except ContainerError as error:
        assert error.exit_status == 7 and error.stderr == b"gone wrong\n", error
    else:
        raise AssertionError("an exit code of 7 raised nothing")


def test_a_container_lives_through_all_its_states():
    container = start("life", environment={"A": "b"}, mem_limit="128m", stop_signal="TERM", working_dir="/tmp")
    assert container.status == "created"  # as it was when docker-py looked
    container.reload()
    assert container.status == "running" and container.name == named("life")
    assert container.image.tags and container.labels["prefix"] == PREFIX
    attributes = container.attrs
    assert attributes["Config"]["WorkingDir"] == "/tmp" and "A=b" in attributes["Config"]["Env"]
    assert attributes["HostConfig"]["Memory"] == 128 << 20
    assert [it.id for it in client.containers.list(filters={"label": f"prefix={PREFIX}", "name": named("life")})] == [
        container.id
    ]

    top = container.top()
    assert "CMD" in top["Titles"] and len(top["Processes"]) >= 1, top
    stats = container.stats(stream=False)
    assert stats["memory_stats"]["usage"] > 0 and stats["cpu_stats"]["cpu_usage"]["total_usage"] > 0, stats
    first = next(iter(container.stats(stream=True, decode=True)))
    assert first["id"] == container.id, first

    container.pause()
    container.reload()
    assert container.status == "paused"
    expect_error(APIError, 409, "is paused", lambda: container.exec_run("true"))
    container.unpause()
    container.rename(named("renamed"))
    assert client.containers.get(named("renamed")).id == container.id
    container.update(cpu_shares=100)
    container.reload()
    assert container.attrs["HostConfig"]["CpuShares"] == 100
    expect_error(APIError, 409, "container", container.remove)

    container.restart(timeout=20)
    container.reload()
    assert container.status == "running"
    while container.logs().count(b"ready") < 2:
        time.sleep(0.1)
    container.stop(timeout=20)
    assert container.wait(timeout=60)["StatusCode"] in (3, 143)
    container.start()
    container.kill()
    assert container.wait()["StatusCode"] == 137
    container.remove(v=True)
    expect_error(NotFound, 404, "No such container", container.reload)


def test_exec_gives_streams_codes_and_a_socket():
    container = start("exec")
    assert container.exec_run(["echo", "hello"]) == (0, b"hello\n")
    code, (out, err) = container.exec_run(["sh", "-c", "echo out; echo err >&2; exit 4"], demux=True)
    assert (code, out, err) == (4, b"out\n", b"err\n")
    assert container.exec_run("sh -c 'echo $A; id -u; pwd'", environment={"A": "b"}, user="1000", workdir="/var") == (
        0,
        b"b\n1000\n/var\n",
    )
    assert b"".join(container.exec_run(["seq", "3"], stream=True).output) == b"1\n2\n3\n"
    created = client.api.exec_create(container.id, ["cat"], stdin=True)
    connection = client.api.exec_start(created["Id"], socket=True)
    connection._sock.sendall(b"typed\n")
    assert connection.read(8)[:1] == b"\x01" and connection.read(6) == b"typed\n"
    assert client.api.exec_inspect(created["Id"])["Running"]
    connection.close()
    expect_error(NotFound, 404, "No such exec instance", lambda: client.api.exec_inspect("0" * 64))
    container.remove(force=True)


def test_archives_go_in_and_come_out():
    container = client.containers.create("busybox", name=named("archive"))
    assert container.put_archive("/tmp", archive({"one": b"first\n", "two": b"second\n"}))
    stream, stat = container.get_archive("/tmp/one")
    assert stat["name"] == "one" and stat["size"] == 6, stat
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
        assert tar.extractfile("one").read() == b"first\n"
    assert {"Path": "/tmp/two", "Kind": 1} in container.diff()
    with tarfile.open(fileobj=io.BytesIO(b"".join(container.export()))) as tar:
        assert tar.extractfile("tmp/two").read() == b"second\n"
    expect_error(NotFound, 404, "Could not find the file", lambda: container.get_archive("/nothing"))
    expect_error(NotFound, 404, "Could not find the file", lambda: container.put_archive("/nothing", archive({})))
    container.remove()


def test_logs_come_whole_in_parts_and_as_they_are_written():
    script = "for i in 1 2 3; do echo $i; sleep 0.2; done; echo err >&2"
    container = client.containers.run("busybox", ["sh", "-c", script], name=named("logs"), detach=True)
    assert b"".join(container.logs(stream=True, stderr=False)) == b"1\n2\n3\n"
    container.wait()
    assert container.logs(stdout=False) == b"err\n"
    assert container.logs(tail=1, stderr=False) in (b"3\n", b"")
    assert container.logs(timestamps=True, stderr=False).split(b" ")[0].endswith(b"Z")
    assert container.logs(since=int(time.time()) + 3600) == b""
    assert container.logs(until=1) == b""
    container.remove()


def test_attach_carries_input_and_output():
    container = client.containers.create(
        "busybox", ["sh", "-c", "read line; echo got $line"], name=named("attach"), stdin_open=True
    )
    connection = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    container.start()
    connection._sock.sendall(b"this\n")
    assert connection.read(8)[:1] == b"\x01" and connection.read(9) == b"got this\n"
    assert container.wait()["StatusCode"] == 0
    assert container.logs() == b"got this\n"
    container.remove()


def test_volumes_keep_what_containers_wrote():
    volume = client.volumes.create(named("volume"), labels={"prefix": PREFIX})
    mount = {volume.name: {"bind": "/data", "mode": "rw"}}
    client.containers.run("busybox", ["sh", "-c", "echo kept >/data/file"], volumes=mount, remove=True)
    mount[volume.name]["mode"] = "ro"
    user = client.containers.create("busybox", ["cat", "/data/file"], volumes=mount, name=named("user"))
    assert user.attrs["Mounts"][0]["Name"] == volume.name and not user.attrs["Mounts"][0]["RW"], user.attrs["Mounts"]
    user.start()
    user.wait()
    assert user.logs() == b"kept\n"
    assert [it.name for it in client.volumes.list(filters={"label": f"prefix={PREFIX}"})] == [volume.name]
    expect_error(APIError, 409, "volume is in use", volume.remove)
    user.remove()
    volume.remove()
    expect_error(NotFound, 404, "no such volume", volume.reload)
    other = client.volumes.create(labels={"pruned": PREFIX})  # newer APIs prune only those without a name
    pruned = client.volumes.prune(filters={"label": f"pruned={PREFIX}"})
    assert pruned["VolumesDeleted"] == [other.name], pruned
    with_mounts = client.containers.run(
        "busybox",
        ["sh", "-c", "touch /scratch/file && ls /scratch"],
        mounts=[docker.types.Mount("/scratch", None, type="tmpfs", tmpfs_size=1 << 20)],
        remove=True,
    )
    assert with_mounts == b"file\n"


def test_images_are_tagged_saved_loaded_and_removed():
    image = client.images.get("busybox")
    assert image.attrs["Os"] == "linux" and image.history()
    repository = f"localhost/{PREFIX}"
    assert image.tag(repository, "one")
    assert f"{repository}:one" in [tag for it in client.images.list(name=repository) for tag in it.tags]
    saved = b"".join(client.images.get(f"{repository}:one").save(named=f"{repository}:one"))
    client.images.remove(f"{repository}:one")
    expect_error(ImageNotFound, 404, "No such image", lambda: client.images.get(f"{repository}:one"))
    assert [it.id for it in client.images.load(saved)] == [image.id]
    imported = client.api.import_image_from_data(archive({"file": b"x"}), repository, "imported")
    assert "sha256:" in imported, imported
    client.images.remove(f"{repository}:imported")
    client.images.remove(f"{repository}:one")
    assert client.images.prune(filters={"label": f"nothing={PREFIX}"})["SpaceReclaimed"] == 0


def test_events_come_as_they_happen_and_from_the_past():
    # The daemon may run in another machine, whose clock is not quite this one's.
    since = int(time.time()) - 2
    live = client.events(decode=True, filters={"label": f"events={PREFIX}", "type": "container"})
    seen = []
    gone = threading.Event()

    def follow():
        for event in live:
            seen.append(event["Action"])
            if event["Action"] == "destroy":
                gone.set()
                return

    threading.Thread(target=follow, daemon=True).start()
    client.containers.run("busybox", ["true"], name=named("events"), labels={"events": PREFIX}, remove=True)
    assert gone.wait(60), seen
    wanted = ["create", "start", "die", "destroy"]
    assert [action for action in seen if action in wanted] == wanted, seen
    past = client.events(since=since, until=int(time.time()) + 2, decode=True, filters={"label": f"events={PREFIX}"})
    assert [event["Action"] for event in past if event["Action"] in wanted] == wanted


def test_an_image_is_built():
    text = b"FROM busybox\nARG WORD\nCOPY file /\nRUN echo $WORD >/word\n"
    build = lambda text, **options: client.images.build(
        fileobj=io.BytesIO(archive({"Dockerfile": text, "file": b"copied\n"})), custom_context=True, rm=True, **options
    )
    tag = f"localhost/{PREFIX}-built:1"
    image, log = build(text, tag=tag, buildargs={"WORD": "said"}, labels={"built": PREFIX})
    told = "".join(part.get("stream", "") for part in log)
    assert "Step 4/4 : RUN" in told and "Successfully built" in told, told
    assert image.tags == [tag] and image.labels == {"built": PREFIX}, image.attrs
    assert client.containers.run(tag, ["cat", "/file", "/word"], remove=True) == b"copied\nsaid\n"
    try:
        build(b"FROM busybox\nRUN exit 3\n")
    except BuildError as error:
        assert "returned a non-zero code: 3" in error.msg, error.msg
    else:
        raise AssertionError("a build whose command fails does not fail")
    client.images.remove(tag)


def test_what_has_ended_is_pruned():
    container = client.containers.create("busybox", name=named("pruned"), labels={"pruned": PREFIX})
    pruned = client.containers.prune(filters={"label": f"pruned={PREFIX}"})
    assert pruned["ContainersDeleted"] == [container.id], pruned
    assert client.containers.prune(filters={"label": f"pruned={PREFIX}"})["SpaceReclaimed"] == 0


def test_what_cannot_be_is_an_error_with_its_status():
    expect_error(ImageNotFound, 404, "No such image", lambda: client.images.get(f"localhost/{PREFIX}-none"))
    expect_error(NotFound, 404, "No such container", lambda: client.containers.get(named("none")))
    container = client.containers.create("busybox", name=named("errors"))
    again = lambda: client.containers.create("busybox", name=named("errors"))
    expect_error(APIError, 409, "is already in use by container", again)
    expect_error(APIError, 409, "is not running", container.kill)
    expect_error(APIError, 400, "memory limit", lambda: client.containers.create("busybox", mem_limit="1k"))
    container.remove()


def sweep():
    for container in client.containers.list(all=True, filters={"name": f"^/?{PREFIX}-"}):
        container.remove(force=True, v=True)
    for volume in client.volumes.list(filters={"name": f"{PREFIX}-"}):
        volume.remove(force=True)


def main():
    tests = [(name, test) for name, test in globals().items() if name.startswith("test_")]
    chosen = [(name, test) for name, test in tests if not sys.argv[1:] or name in sys.argv[1:]]
    failed = 0
    sweep()
    for name, test in chosen:
        try:
            test()
        except Exception:
            failed += 1
            print(f"FAILED {name}", flush=True)
            traceback.print_exc()
        else:
            print(f"passed {name}", flush=True)
    sweep()
    print(f"{len(chosen) - failed} of {len(chosen)} passed")
    sys.exit(failed != 0)


main()
