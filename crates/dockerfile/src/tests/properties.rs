//! No text makes the parser fail in any other way than with an error, and what is printed is the same Dockerfile.

use crate::fuzzing;
use proptest::prelude::*;

/// A Dockerfile with something of everything.
const REAL: &str = r#"# syntax=docker/dockerfile:1
# escape=\
# check=skip=JSONArgsRecommended;error=false

# version of the base
ARG version=3.20 other
ARG REGISTRY

# build does the work
FROM --platform=$BUILDPLATFORM ${REGISTRY:-docker.io/library}/alpine:${version} AS build
ARG version TARGETARCH="amd64"
ENV PATH=$PATH:/opt/bin NAME="a b" C='d $e' F=g\ h
ENV OLD the whole rest "of it"
LABEL org.example.title="A \"title\"" a=b
SHELL ["/bin/ash", "-eo", "pipefail", "-c"]
WORKDIR /src/${NAME// /_}
RUN --mount=type=cache,target=/root/.cache,sharing=locked,id=c --mount=type=bind,source=.,target=/x,rw \
    --mount=type=secret,id=token,required --mount=type=ssh --mount=type=tmpfs,target=/tmp,size=64m \
    --network=none --security=sandbox \
    # a comment
    apk add --no-cache gcc && \
    make
RUN ["make", "-j", "2"]
RUN <<EOF
set -e
echo "$HOME"
EOF
RUN <<-"ONE" cat >/x && <<TWO cat
	one
	ONE
two
TWO
COPY --link --chown=1:2 --chmod=u=rwX,go=rX --exclude=*.md --exclude=**/x a b?.c /dst/
COPY ["with space", "/dst/"]
COPY --parents ./src/./a /y/
COPY <<a <<'b' /etc/
hello ${version}
a
raw $x
b
ADD --checksum=sha256:aa --keep-git-dir=true --unpack=false https://example.com/a.tar /

FROM scratch
COPY --from=build /src/out /out
COPY --from=0 /a /b
MAINTAINER Somebody <a@b>
USER 1000:1000
EXPOSE 80 443/tcp 8000-8010/udp $PORT
VOLUME /data "/b"
VOLUME ["/x y"]
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=1m30s --timeout=3s --start-period=1.5s --start-interval=500ms --retries=3 CMD curl -f / || exit 1
HEALTHCHECK NONE
ONBUILD RUN echo hello \
    world
ONBUILD COPY <<EOF /x
hi
EOF
ENTRYPOINT ["/bin/x"]
CMD a b
"#;

#[test]
fn a_real_dockerfile_goes_through_every_part() {
    super::read(REAL);
    fuzzing::dockerfile(REAL);
    fuzzing::dockerfile(&REAL.replace('\n', "\r\n"));
    fuzzing::dockerfile(&format!("\u{feff}{REAL}"));
}

/// Pieces of which most texts are nearly Dockerfiles.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "FROM",
        "RUN",
        "COPY",
        "ADD",
        "ENV",
        "ARG",
        "LABEL",
        "CMD",
        "ONBUILD",
        "HEALTHCHECK",
        "VOLUME",
        "EXPOSE",
        "USER",
        "SHELL",
        "a",
        "b=c",
        "$X",
        "${X:-y}",
        "${X#*a}",
        "${X/b/c}",
        "--from=a",
        "--mount=type=cache,target=/x",
        "--chmod=755",
        "--",
        "--interval=1s",
        "<<EOF",
        "EOF",
        "<<-\"E F\"",
        "E F",
        "[\"a\"",
        "]",
        ",\"b\"]",
        "'",
        "\"",
        "\\",
        "`",
        "#",
        "# escape=`",
        "\n",
        "\\\n",
        "`\n",
        "\r\n",
        "\u{b}",
        "\u{a0}",
        "\t",
        " ",
        " ",
        "scratch",
        "AS",
        "\nFROM a\n",
        "\nRUN ",
        "\nCOPY ",
        "\nENV ",
        "é",
    ];
    prop_oneof![4 => proptest::sample::select(words.to_vec()).prop_map(str::to_owned), 1 => "\\PC{0,3}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_text_is_read(text in "(?s).{0,200}") {
        fuzzing::dockerfile(&text);
    }

    #[test]
    fn nearly_dockerfiles_are_read(
        pieces in proptest::collection::vec(piece(), 0..30), begins in any::<bool>(), spaces in any::<bool>(),
    ) {
        let text = pieces.join(if spaces { " " } else { "" });
        fuzzing::dockerfile(&if begins { format!("FROM a\n{text}") } else { text });
    }

    #[test]
    fn mutations_of_a_real_dockerfile_are_read(
        changes in proptest::collection::vec((0..REAL.len(), 0usize..40, piece()), 1..6),
    ) {
        let mut text = REAL.to_owned();
        for (at, length, new) in changes {
            let floor = |at: usize| (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            let (start, end) = (floor(at), floor(at + length));
            text.replace_range(start..end, &new);
        }
        fuzzing::dockerfile(&text);
    }
}
