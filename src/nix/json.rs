//! The JSON that Nix prints, in every shape since 2.18: lists and maps, full paths and names relative to the store, bare
//! and wrapped with a version.
//!
//! Nix calls its JSON experimental and means it, so these readers look for what they need and ignore the rest. Where
//! a format exists that never changed (`nix-store --dump-db`), it is used instead.

use super::closure::PathInfo;
use super::exec::Exec;
use super::path::{StorePath, sha256_hex};
use super::{nix, said};
use crate::failure::{Failure, Reason};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::time::Duration;

fn parse(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("not the JSON that Nix prints: {error}"))
}

fn store_path(value: &Value) -> Result<StorePath, String> {
    let text = value
        .as_str()
        .ok_or_else(|| format!("`{}` is not a path", short(value)))?;
    StorePath::from_json(text).map_err(|error| error.to_string())
}

fn optional_path(value: Option<&Value>) -> Result<Option<StorePath>, String> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() || text == "unknown-deriver" => Ok(None),
        Some(value) => store_path(value).map(Some),
    }
}

fn short(value: &Value) -> String {
    value.to_string().chars().take(60).collect()
}

/// Reads `nix path-info --json`; a path the store does not have comes without information.
pub fn parse_path_info(text: &str) -> Result<Vec<(StorePath, Option<PathInfo>)>, String> {
    match parse(text)? {
        Value::Array(list) => list
            .iter()
            .map(|item| {
                let fields = item
                    .as_object()
                    .ok_or_else(|| format!("`{}` describes no path", short(item)))?;
                let path = store_path(fields.get("path").unwrap_or(&Value::Null))?;
                let valid = fields.get("valid").and_then(Value::as_bool).unwrap_or(true);
                let info = if valid {
                    Some(path_info(&path, fields)?)
                } else {
                    None
                };
                Ok((path, info))
            })
            .collect(),
        Value::Object(map) => {
            let wrapped = map.get("info").and_then(Value::as_object);
            wrapped
                .unwrap_or(&map)
                .iter()
                .map(|(name, item)| {
                    let path = StorePath::from_json(name).map_err(|error| error.to_string())?;
                    let info = match item {
                        Value::Null => None,
                        Value::Object(fields) => Some(path_info(&path, fields)?),
                        other => return Err(format!("`{}` describes no path", short(other))),
                    };
                    Ok((path, info))
                })
                .collect()
        }
        other => Err(format!("`{}` lists no paths", short(&other))),
    }
}

fn path_info(path: &StorePath, fields: &Map<String, Value>) -> Result<PathInfo, String> {
    let nar_hash = fields
        .get("narHash")
        .and_then(hash)
        .ok_or_else(|| format!("{path}: no NAR hash"))?;
    let nar_size = fields
        .get("narSize")
        .and_then(Value::as_u64)
        .ok_or_else(|| format!("{path}: no NAR size"))?;
    let mut references: Vec<StorePath> = match fields.get("references") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(list)) => list.iter().map(store_path).collect::<Result<_, _>>()?,
        Some(other) => return Err(format!("{path}: `{}` are no references", short(other))),
    };
    references.sort();
    let deriver = optional_path(fields.get("deriver"))?;
    Ok(PathInfo {
        path: path.clone(),
        nar_hash,
        nar_size,
        deriver,
        references,
    })
}

/// A hash as text, or as `{algorithm, format, hash}`.
fn hash(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => sha256_hex(text),
        Value::Object(fields) => {
            let algorithm = fields
                .get("algorithm")
                .and_then(Value::as_str)
                .unwrap_or("sha256");
            let digits = fields.get("hash").and_then(Value::as_str)?;
            if algorithm == "sha256" {
                sha256_hex(digits)
            } else {
                None
            }
        }
        _ => None,
    }
}

/// One thing built: its derivation, where it has one, and its outputs by name.
pub type Outputs = (Option<StorePath>, BTreeMap<String, StorePath>);

/// Reads `nix build --json`: per installable the derivation and its outputs.
pub fn parse_build(text: &str) -> Result<Vec<Outputs>, String> {
    let value = parse(text)?;
    let list = value
        .as_array()
        .ok_or_else(|| format!("`{}` lists nothing built", short(&value)))?;
    list.iter()
        .map(|item| {
            let Some(fields) = item.as_object() else {
                // A path that was asked for as such.
                return Ok((None, BTreeMap::from([("out".to_string(), store_path(item)?)])));
            };
            let drv = match fields.get("drvPath") {
                // A derivation that is itself an output of another one.
                Some(Value::Object(nested)) => optional_path(nested.get("drvPath"))?,
                other => optional_path(other)?,
            };
            let mut outputs = BTreeMap::new();
            match fields.get("outputs") {
                Some(Value::Object(map)) => {
                    for (name, path) in map {
                        if let Some(path) = optional_path(Some(path))? {
                            outputs.insert(name.clone(), path);
                        }
                    }
                }
                _ => {
                    if let Some(path) = optional_path(fields.get("path"))? {
                        outputs.insert("out".to_string(), path);
                    }
                }
            }
            Ok((drv, outputs))
        })
        .collect()
}

/// A derivation as far as the tool needs it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Derivation {
    pub path: StorePath,
    /// `x86_64-linux`, `builtin`, …
    pub system: String,
    pub builder: String,
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    /// Output name to path; without a path where it is known only after the build.
    pub outputs: BTreeMap<String, Option<StorePath>>,
    /// The derivations it needs, each with the outputs of it.
    pub input_drvs: BTreeMap<StorePath, Vec<String>>,
    pub input_srcs: Vec<StorePath>,
}

/// Reads `nix derivation show`.
pub fn parse_derivations(text: &str) -> Result<Vec<Derivation>, String> {
    let value = parse(text)?;
    let map = value
        .as_object()
        .ok_or_else(|| format!("`{}` lists no derivations", short(&value)))?;
    let wrapped = map.get("derivations").and_then(Value::as_object);
    wrapped
        .unwrap_or(map)
        .iter()
        .map(|(name, item)| derivation(name, item))
        .collect()
}

fn derivation(name: &str, item: &Value) -> Result<Derivation, String> {
    let path = StorePath::from_json(name).map_err(|error| error.to_string())?;
    let fields = item
        .as_object()
        .ok_or_else(|| format!("{path}: `{}` is no derivation", short(item)))?;
    let text = |name: &str| {
        fields
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_string()
    };
    let inputs = fields.get("inputs").and_then(Value::as_object);
    let input = |old: &str, new: &str| {
        fields
            .get(old)
            .or_else(|| inputs.and_then(|inputs| inputs.get(new)))
    };

    let mut outputs = BTreeMap::new();
    for (name, output) in fields
        .get("outputs")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        outputs.insert(name.clone(), optional_path(output.get("path"))?);
    }
    let mut input_drvs = BTreeMap::new();
    for (name, wanted) in input("inputDrvs", "drvs")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let list = wanted
            .as_array()
            .or_else(|| wanted.get("outputs").and_then(Value::as_array));
        let outputs = list
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(ToString::to_string)
            .collect();
        input_drvs.insert(
            StorePath::from_json(name).map_err(|error| format!("{path}: {error}"))?,
            outputs,
        );
    }
    let sources = input("inputSrcs", "srcs").and_then(Value::as_array);
    let input_srcs = sources
        .into_iter()
        .flatten()
        .map(store_path)
        .collect::<Result<_, _>>()?;
    let args = fields.get("args").and_then(Value::as_array);
    let env = fields.get("env").and_then(Value::as_object);
    let as_text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), ToString::to_string)
    };
    Ok(Derivation {
        system: text("system"),
        builder: text("builder"),
        args: args.into_iter().flatten().map(as_text).collect(),
        env: env
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.clone(), as_text(value)))
            .collect(),
        outputs,
        input_drvs,
        input_srcs,
        path,
    })
}

/// Asks the store where `exec` runs for derivations it has.
pub async fn derivations<E: Exec>(
    exec: &E,
    drvs: &[StorePath],
    deadline: Duration,
) -> Result<Vec<Derivation>, Failure> {
    if drvs.is_empty() {
        return Ok(Vec::new());
    }
    let what = || {
        format!(
            "cannot read {}{}",
            drvs[0],
            if drvs.len() > 1 { " and others" } else { "" }
        )
    };
    let paths: Vec<&str> = drvs.iter().map(StorePath::as_str).collect();
    let mut output = exec
        .exec(
            &nix(&[&["derivation", "show", "--"], &paths[..]].concat()),
            &super::environment(&[]),
            None,
            deadline,
        )
        .await?;
    // Its name before Nix 2.16.
    if !output.ok() && output.err().contains("'derivation' is not a recognised command") {
        let argv = nix(&[&["show-derivation", "--"], &paths[..]].concat());
        output = exec.exec(&argv, &super::environment(&[]), None, deadline).await?;
    }
    if !output.ok() {
        return Err(said::failure(Reason::Store, what(), &output));
    }
    parse_derivations(&output.out()).map_err(|why| Failure::failed(Reason::Store, what()).why(why))
}

/// What a store says about itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StoreInfo {
    pub url: String,
    /// The version of the daemon, where the store has one.
    pub version: Option<String>,
    /// Whether the store trusts whoever asks; without an answer where it does not say.
    pub trusted: Option<bool>,
}

/// Reads `nix store info --json` and `nix store ping --json`.
pub fn parse_store_info(text: &str) -> Result<StoreInfo, String> {
    let value = parse(text)?;
    let fields = value
        .as_object()
        .ok_or_else(|| format!("`{}` describes no store", short(&value)))?;
    let trusted = match fields.get("trusted") {
        Some(Value::Bool(trusted)) => Some(*trusted),
        Some(Value::Number(number)) => number.as_u64().map(|number| number != 0),
        _ => None,
    };
    let text = |name: &str| fields.get(name).and_then(Value::as_str).map(ToString::to_string);
    Ok(StoreInfo {
        url: text("url").unwrap_or_default(),
        version: text("version"),
        trusted,
    })
}
