//! `del`: deletes an object.

use std::ffi::OsString;

use clap::Args;
use hedgerow_client::{AckLevel, Version};
use serde_json::{Value, json};

use super::{key_bytes, key_json};
use crate::context::{Context, Facts, failed};
use crate::failure::Failure;
use crate::text;

/// Delete an object; it is no error if there is none.
#[derive(Args, Debug)]
pub struct Del {
    /// The key
    key: OsString,
    /// Only if the object's version is this one
    #[arg(long, value_name = "VERSION", value_parser = text::parse_version)]
    if_version: Option<Version>,
    /// Be done only when the delete is flushed: power loss does not bring the object back
    #[arg(long)]
    synced: bool,
}

/// Deletes it.
pub async fn run(context: &Context, del: Del) -> Result<(), Failure> {
    let key = key_bytes(&del.key);
    let what = format!("del {}", text::key(key));
    let client = context.connect().await?;
    let mut request = context.request(&client);
    if let Some(version) = del.if_version {
        request = request.if_version(version);
    }
    if del.synced {
        request = request.ack(AckLevel::Synced);
    }
    let version = request.delete(key).await.map_err(failed(&what))?;
    context.show(&Deleted { key: key.to_vec(), version })
}

struct Deleted {
    key: Vec<u8>,
    version: Version,
}

impl Facts for Deleted {
    fn json(&self) -> Value {
        let mut facts = json!({ "version": self.version.to_string() });
        key_json(&mut facts, &self.key);
        facts
    }

    fn text(&self) -> String {
        format!("{}: deleted, version {}\n", text::key(&self.key), self.version)
    }
}
