//! `hook ruleset`: what a forge's own rules can hold of a release, as its API takes it, and in words what they cannot.

use serde_json::{Value, json};

use crate::cli;

/// A forge's rules.
pub struct Ruleset {
    /// One object for each request: `path` below the repository's own, and its `body`.
    pub rules: Value,
    /// How to send them, what they stop, and what they do not.
    pub words: String,
}

/// The rules for the forge that was named. Only branches and tags: no forge has rules for `refs/nixgate/`.
pub fn of(forge: &cli::Forge) -> Ruleset {
    let (rules, send, extra) = if forge.github {
        (
            github(),
            GITHUB,
            "whoever is on the rules' bypass list, which is empty here, and may change the rules; private repositories need a plan that has them",
        )
    } else if forge.gitlab {
        (
            gitlab(),
            GITLAB,
            "whoever may create such tags and deletes one in the web interface or by the API, and a maintainer who does so with a branch",
        )
    } else {
        (
            forgejo(),
            FORGEJO,
            "those on the tags' list, who may move and delete them too: name a bot, not everybody",
        )
    };
    let words = format!(
        "send them: {send}\n\
         stopped: a pointer that is rewound or deleted, a record that is moved or deleted\n\
         not stopped: a tag that is no record, a pointer to a commit that nobody released, and whatever happens to \
         refs/nixgate/ledger/*, which are neither branches nor tags: no forge judges record, ledger and pointer of a push \
         together, nor looks at signers and dates\n\
         not stopped: a branch or a tag named release, refs/nixgate and refs/nixgate/ledger, which leave no room for \
         records\n\
         not stopped: {extra}\n\
         so run `git nixgate verify --remote` in CI; where the server runs hooks of your own, `git nixgate hook install \
         --server` stops all of it, by pre-receive and reference-transaction\n"
    );
    Ruleset { rules, words }
}

const GITHUB: &str = "git nixgate hook ruleset --github | jq -c '.[]' | while read -r rule; do \
                      jq .body <<<\"$rule\" | gh api -X POST repos/OWNER/NAME/rulesets --input -; done";
const GITLAB: &str = "git nixgate hook ruleset --gitlab | jq -c '.[]' | while read -r rule; do \
                      jq .body <<<\"$rule\" | glab api -X POST projects/ID/$(jq -r .path <<<\"$rule\") \
                      -H content-type:application/json --input -; done";
const FORGEJO: &str = "git nixgate hook ruleset --forgejo | jq -c '.[]' | while read -r rule; do \
                       jq .body <<<\"$rule\" | curl -fsS -H \"authorization: token $TOKEN\" -H content-type:application/json \
                       -d @- https://HOST/api/v1/repos/OWNER/NAME/$(jq -r .path <<<\"$rule\"); done";

/// Bodies of `POST /repos/{owner}/{repo}/rulesets`, <https://docs.github.com/en/rest/repos/rules#create-a-repository-ruleset>.
/// A `*` matches no `/`, and `**/*` any number of them
/// (<https://docs.github.com/en/repositories/configuring-branches-and-merges-in-your-repository/managing-rulesets/creating-rulesets-for-a-repository#using-fnmatch-syntax>).
fn github() -> Value {
    let of = |target: &str, refs: &str, rules: &[&str]| {
        let rules: Vec<Value> = rules.iter().map(|kind| json!({ "type": kind })).collect();
        json!({
            "path": "rulesets",
            "body": {
                "name": format!("nixgate: {refs}"),
                "target": target,
                "enforcement": "active",
                "bypass_actors": [],
                "conditions": { "ref_name": { "include": [refs], "exclude": [] } },
                "rules": rules,
            }
        })
    };
    json!([
        of(
            "branch",
            "refs/heads/release/*",
            &["deletion", "non_fast_forward"]
        ),
        // A tag that moves forward is moved all the same.
        of(
            "tag",
            "refs/tags/release/**/*",
            &["deletion", "non_fast_forward", "update"]
        ),
    ])
}

/// Bodies of `POST /projects/:id/protected_branches` (<https://docs.gitlab.com/api/protected_branches/>) and
/// `…/protected_tags` (<https://docs.gitlab.com/api/protected_tags/>); the levels are 0 nobody, 30 developers, 40
/// maintainers. A protected tag can be neither moved nor deleted by a push
/// (<https://docs.gitlab.com/user/project/protected_tags/>).
fn gitlab() -> Value {
    json!([
        {
            "path": "protected_branches",
            "body": {
                "name": "release/*",
                "push_access_level": 30,
                "merge_access_level": 0,
                "allow_force_push": false,
            }
        },
        { "path": "protected_tags", "body": { "name": "release/*", "create_access_level": 30 } },
    ])
}

/// Bodies of `POST /repos/{owner}/{repo}/branch_protections` and `…/tag_protections`: `CreateBranchProtectionOption` and
/// `CreateTagProtectionOption` of the instance's own `/swagger.v1.json`. A protected branch takes no forced push and
/// cannot be deleted; who is not on a tag's list may neither create nor change it
/// (<https://forgejo.org/docs/latest/user/protection/>).
fn forgejo() -> Value {
    json!([
        {
            "path": "branch_protections",
            "body": { "rule_name": "release/**", "enable_push": true, "apply_to_admins": true }
        },
        {
            "path": "tag_protections",
            "body": { "name_pattern": "/^release\\//", "whitelist_usernames": ["NAME-OF-THE-BOT"], "whitelist_teams": [] }
        },
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each API takes, by the pages named above: a key that is none is ignored there without a word.
    #[test]
    fn what_is_sent_is_what_the_forges_take() {
        let repository = [
            "name",
            "target",
            "enforcement",
            "bypass_actors",
            "conditions",
            "rules",
        ];
        let branches = [
            "name",
            "allow_force_push",
            "merge_access_level",
            "push_access_level",
            "unprotect_access_level",
            "code_owner_approval_required",
        ];
        let tags = ["name", "create_access_level"];
        let protection = ["rule_name", "enable_push", "apply_to_admins"];
        let tag_protection = ["name_pattern", "whitelist_usernames", "whitelist_teams"];
        let all = [github(), gitlab(), forgejo()];
        for rule in all
            .iter()
            .flat_map(|rules| rules.as_array().into_iter().flatten())
        {
            let known: &[&str] = match rule["path"].as_str() {
                Some("rulesets") => &repository,
                Some("protected_branches") => &branches,
                Some("protected_tags") => &tags,
                Some("branch_protections") => &protection,
                Some("tag_protections") => &tag_protection,
                other => panic!("{other:?}"),
            };
            let body = rule["body"].as_object().expect("an object");
            for (key, value) in body {
                assert!(known.contains(&key.as_str()), "{key}");
                if key.ends_with("_access_level") {
                    assert!([0, 30, 40].map(Value::from).contains(value), "{key}: {value}");
                }
            }
            if let Some(target) = body.get("target") {
                assert!(target == "branch" || target == "tag");
                assert_eq!(body["enforcement"], "active");
                for kind in body["rules"].as_array().expect("a list") {
                    assert!(
                        ["deletion", "non_fast_forward", "update"]
                            .map(Value::from)
                            .contains(&kind["type"])
                    );
                }
                let patterns = body["conditions"]["ref_name"].as_object().expect("an object");
                let keys: Vec<&String> = patterns.keys().collect();
                assert_eq!(keys, ["exclude", "include"]);
            }
        }
    }

    #[test]
    fn each_forge_guards_branches_and_tags() {
        for name in ["github", "gitlab", "forgejo"] {
            let found = of(&cli::Forge {
                github: name == "github",
                gitlab: name == "gitlab",
                forgejo: name == "forgejo",
            });
            let rules = found.rules.as_array().expect("a list");
            assert_eq!(rules.len(), 2, "{name}");
            for rule in rules {
                let body = rule["body"].to_string();
                assert!(body.contains("release"), "{name}: {body}");
                assert!(rule["path"].as_str().is_some_and(|path| !path.is_empty()));
            }
            assert!(found.words.contains(&format!("--{name} |")) && found.words.contains("not stopped:"));
        }
    }
}
