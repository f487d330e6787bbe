//! What a connection does with bytes, for the workspace's benches: a feature keeps it out of what others see.

use wire::resp;

use super::decode::decode;
use super::encode::{Kind, encode};
use super::scripts::{Script, Shas};
use crate::{Answer, Command, Policy, StoreError};

/// Commands and replies without a connection.
#[derive(Debug)]
pub struct Codec {
    shas: Shas,
    policy: Policy,
}

impl Codec {
    /// As a connection under `policy` has it, with names of scripts that no server knows.
    pub fn new(policy: Policy) -> Self {
        Self { shas: Shas::unknown(), policy }
    }

    /// Appends a command.
    pub fn encode(&self, command: &Command<'_>, out: &mut Vec<u8>) {
        let _kind = encode(out, command, &self.shas, &self.policy);
    }

    /// The answer in the first reply of `bytes`, read as the reply to an admission; `None` when it is not whole.
    ///
    /// # Errors
    /// Bytes that no reply begins with, and a reply of the wrong shape.
    pub fn admission(&self, bytes: &[u8]) -> Option<Result<Answer, StoreError>> {
        match resp::parse(bytes) {
            Ok(Some((reply, _))) => Some(decode(Kind::Eval(Script::Admit), &reply)),
            Ok(None) => None,
            Err(resp::Malformed) => Some(Err(StoreError::Refused("not a reply".to_owned()))),
        }
    }
}
