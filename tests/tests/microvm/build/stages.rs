//! The microVM of a stage: its commands have it one after the other, and nothing of one is there for the next but its layer.

use anyhow::Result;
use system_tests::{Hull, hull};

use super::api::{Answer, Image, Request, archive, build};

/// Tells in which boot of a kernel it is run.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

fn built(hull: &Hull, image: &Image<'_>, dockerfile: &str) -> Result<Answer> {
    // Unlike any other build's, so that nothing comes from the cache.
    let own = format!("{:?}", std::time::SystemTime::now());
    let request = Request {
        dockerfile: "Dockerfile",
        name: &image.name,
        ..Request::default()
    };
    build(
        hull,
        &request,
        &archive(&[("Dockerfile", dockerfile), ("own", &own)])?,
    )
}

#[test]
fn commands_of_a_stage_share_a_microvm_and_see_the_layers_between_them() -> Result<()> {
    let hull = hull!();
    let image = Image::new(&hull, "stage-shared");
    let dockerfile = format!(
        "FROM localhost/busybox
COPY own /own
RUN cp {BOOT} /first && echo one >/one && ln -s one /link && (sleep 1000 &)
COPY own /between
ENV SEEN=yes
WORKDIR /work
RUN cmp {BOOT} /first && cmp /between /own && test $SEEN = yes && test $PWD = /work && test $(cat /link) = one
RUN --mount=type=tmpfs,target=/scratch --mount=type=bind,source=own,target=/bound \\
    cmp {BOOT} /first && cmp /bound /own && echo x >/scratch/x && rm /one && ! ps | grep '[s]leep'
RUN cmp {BOOT} /first && ! ls /one /bound/own && mkdir /one && test -z \"$(ls -A /scratch)\"
RUN --mount=type=bind,target=/context --mount=type=tmpfs,target=/context/scratch \\
    touch /context/scratch/x && ! touch /context/own && test -f /context/own
RUN --network=none ! cmp {BOOT} /first && test -d /one && echo two >/one/two
RUN test $(cat /one/two) = two
"
    );
    built(&hull, &image, &dockerfile)?.image()?;
    Ok(())
}

#[test]
fn what_a_command_was_given_is_not_there_for_the_next() -> Result<()> {
    let hull = hull!();
    let image = Image::new(&hull, "stage-apart");
    let mut request = Request {
        dockerfile: "Dockerfile",
        name: &image.name,
        ..Request::default()
    };
    request.options.secrets.push(("key".into(), "hidden".into()));
    let own = format!("{:?}", std::time::SystemTime::now());
    let dockerfile = format!(
        "FROM localhost/busybox
COPY own /own
RUN --mount=type=secret,id=key,uid=33,gid=34,mode=0440 cp {BOOT} /first && \\
    test \"$(stat -c '%u %g %a' /run/secrets/key)\" = '33 34 440' && test $(cat /run/secrets/key) = hidden
RUN --mount=type=secret,id=key,env=KEY cmp {BOOT} /first && test $KEY = hidden && ! ls /run/secrets/key
RUN cmp {BOOT} /first && test -z \"$KEY\" && ! ls /run/secrets/key && ! grep -r hidden /etc /run /tmp
"
    );
    let context = archive(&[("Dockerfile", &dockerfile), ("own", &own)])?;
    build(&hull, &request, &context)?.image()?;
    Ok(())
}
