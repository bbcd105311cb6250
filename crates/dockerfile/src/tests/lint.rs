//! Build checks.

use super::read;
use crate::lint::{Options, Rule, check};
use crate::pattern::Ignore;

fn told(text: &str, ignore: Option<&Ignore>) -> Vec<String> {
    let environment = |image: &str| (image == "known").then(|| vec!["FROM_IMAGE=1".to_owned()]);
    let options = Options {
        ignore,
        environment: Some(&environment),
        ..Options::default()
    };
    let warnings = check(&read(text), &options);
    warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn each_check_tells_what_docker_tells() {
    for (text, expected) in [
        (
            "FROM a AS Build\nUSER x",
            "StageNameCasing: Stage name 'Build' should be lowercase (line 1)",
        ),
        (
            "FROM a as b",
            "FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)",
        ),
        (
            "from a AS b",
            "FromAsCasing: 'AS' and 'from' keywords' casing do not match (line 1)",
        ),
        (
            "FROM a\nRUN x \\\n\n y",
            "NoEmptyContinuation: Empty continuation line (line 3)",
        ),
        (
            "FROM a\nRUN x\nrun y",
            "ConsistentInstructionCasing: Command 'run' should match the case of the command majority (uppercase) (line 3)",
        ),
        (
            "from a\nrun x\nRun y",
            "ConsistentInstructionCasing: Command 'Run' should match the case of the command majority (lowercase) (line 3)",
        ),
        (
            "FROM a AS b\nFROM c AS b",
            "DuplicateStageName: Duplicate stage name \"b\", stage names should be unique (line 2)",
        ),
        (
            "FROM a AS scratch",
            "ReservedStageName: Stage name should not use the same name as reserved stage \"scratch\" (line 1)",
        ),
        (
            "FROM a\nCMD x",
            "JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals (line 2)",
        ),
        (
            "FROM a\nMAINTAINER x",
            "MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label (line 2)",
        ),
        (
            "ARG version=1\nFROM a:1$vresion",
            "UndefinedArgInFrom: FROM argument 'vresion' is not declared (did you mean version?) (line 2)",
        ),
        (
            "FROM scratch\nENV name=x\nUSER $nmae",
            "UndefinedVar: Usage of undefined variable '$nmae' (did you mean $name?) (line 3)",
        ),
        (
            "FROM known\nUSER $FROM_IMAGES",
            "UndefinedVar: Usage of undefined variable '$FROM_IMAGES' (did you mean $FROM_IMAGE?) (line 2)",
        ),
        (
            "FROM a\nWORKDIR x",
            "WorkdirRelativePath: Relative workdir \"x\" can have unexpected results if the base image changes (line 2)",
        ),
        (
            "FROM a\nCMD [\"x\"]\nCMD [\"y\"]",
            "MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because only the last \
             one will be used (line 2)",
        ),
        (
            "FROM a\nENV x y",
            "LegacyKeyValueFormat: \"ENV key=value\" should be used instead of legacy \"ENV key value\" format (line 2)",
        ),
        (
            "FROM --platform=$TARGETPLATFORM a",
            "RedundantTargetPlatform: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default \
             behavior (line 1)",
        ),
        (
            "FROM a\nARG GITHUB_TOKEN",
            "SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG \"GITHUB_TOKEN\") (line 2)",
        ),
        (
            "ARG t\nFROM a:$t",
            "InvalidDefaultArgInFrom: Default value for ARG a:$t results in empty or invalid base image name (line 2)",
        ),
        (
            "FROM --platform=linux/arm64 a AS b",
            "FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value \"linux/arm64\" (line 1)",
        ),
        (
            "# check=experimental=CopyIgnoredFile\nFROM a\nCOPY secret/x .",
            "CopyIgnoredFile: Attempting to Copy file \"secret/x\" that is excluded by .dockerignore (line 3)",
        ),
        (
            "# check=experimental=all\n# something\nFROM a AS b",
            "InvalidDefinitionDescription: Comment for build stage should follow the format: `# b <description>` (line 3)",
        ),
        (
            "# check=experimental=all\n# something\nARG x=1\nFROM a",
            "InvalidDefinitionDescription: Comment for arg should follow the format: `# x <description>` (line 3)",
        ),
        (
            "FROM a\nEXPOSE 80/TCP",
            "ExposeProtoCasing: Defined protocol '80/TCP' in EXPOSE instruction should be lowercase (line 2)",
        ),
    ] {
        let ignore = Ignore::new(["secret"]).unwrap();
        assert_eq!(told(text, Some(&ignore)), [expected], "{text:?}");
    }
}

#[test]
fn what_is_right_is_not_told() {
    for text in [
        "FROM a AS b\nRUN x\nFROM b\nCOPY --from=b x y\nCMD [\"x\"]",
        "from a as b\nrun x",
        "FROM a\nSHELL [\"/bin/bash\", \"-c\"]\nCMD x",
        "FROM a AS b\nSHELL [\"/bin/bash\", \"-c\"]\nFROM b\nCMD x",
        "# check=experimental=all\n# b builds\n# more\nFROM a AS b",
        "FROM a\nWORKDIR /x\nWORKDIR y",
        "FROM a AS b\nWORKDIR /x\nFROM b\nWORKDIR y",
        "FROM unknown\nUSER $whatever",
        "FROM known\nUSER $FROM_IMAGE",
        "FROM scratch\nARG x\nUSER $x",
        "FROM scratch\nRUN echo $undefined",
        "FROM a\nENV PUBLIC_KEY=x MONKEY=y",
        "ARG t=1\nFROM a:$t",
        "ARG t\nFROM a:${t:-1}",
        "FROM --platform=$BUILDPLATFORM a",
        "FROM --platform=linux/arm64 a AS build-arm64",
        "FROM a\nCOPY secret/x .",
        "# something\nFROM a AS b",
        "# check=experimental=all\n# b builds\nFROM a AS b",
        "# check=skip=all\nFROM a AS B\nCMD x",
        "# check=skip=JSONArgsRecommended,StageNameCasing\nFROM a AS B\nCMD x",
        "FROM a\nHEALTHCHECK CMD x",
        "FROM a\nCMD []",
    ] {
        assert_eq!(
            told(text, Some(&Ignore::new(["secret"]).unwrap())),
            Vec::<String>::new(),
            "{text:?}"
        );
    }
}

#[test]
fn a_warning_is_shown_with_the_page_about_it() {
    let text = "FROM a\nMAINTAINER x\n";
    let warnings = check(&read(text), &Options::default());
    let shown = warnings[0].render("Dockerfile", text, false);
    assert!(
        shown.starts_with("warning: MaintainerDeprecated: Maintainer instruction"),
        "{shown}"
    );
    assert!(
        shown.contains("https://docs.docker.com/go/dockerfile/rule/maintainer-deprecated/"),
        "{shown}"
    );
}

#[test]
fn rules_have_names_of_their_own() {
    for (index, rule) in Rule::ALL.iter().enumerate() {
        assert!(
            Rule::ALL[..index]
                .iter()
                .all(|other| other.name() != rule.name() && other.url() != rule.url())
        );
        assert!(!rule.description().is_empty());
    }
}
