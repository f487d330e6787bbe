//! The replies of a session: matched with the commands in flight, and the replies to internal commands.

use std::time::Instant;

use shard::dependency::Reason;
use wire::resp::{self, Malformed, Reply};

use super::{Link, SCRIPT_MISSES_MAX, State, is_expired, reason_of, text};
use crate::StoreError;
use crate::redis::PossibleLoss;
use crate::redis::decode::{Fault, decode, fault};
use crate::redis::encode::{encode_internal, encode_probe};
use crate::redis::pipeline::{Outcome, Pending, ReplyTo};
use crate::redis::reply_kind::{Internal, Kind};
use crate::redis::scripts::Script;

impl Link {
    /// Delivers every complete reply in `bytes`; returns the number of bytes consumed.
    ///
    /// # Errors
    /// The stream is malformed; the session must end.
    pub(in crate::redis) fn receive(&self, session: u64, bytes: &[u8]) -> Result<usize, Malformed> {
        self.last_reply.set(Instant::now());
        let mut at = 0;
        while let Some((reply, consumed)) = resp::parse(&bytes[at..])? {
            at += consumed;
            let answered = self.pipeline.borrow_mut().next_answered();
            let (pending, sent) = answered.ok_or(Malformed)?;
            match (pending.kind, reply) {
                (Kind::Internal(internal), reply) => self.internal_reply(session, internal, &reply),
                // Not sent again: the caller has given up and may already have sent the command that undoes
                // it; this one would run after that.
                (_, Reply::Error(error))
                    if is_expired(&pending) && !matches!(fault(error), Fault::Server(_)) => {}
                (kind, Reply::Error(error)) => match (fault(error), kind.script()) {
                    (Fault::NoScript, Some(script)) if pending.script_misses < SCRIPT_MISSES_MAX => {
                        self.reload(script);
                        let range = pending.bytes.start as usize..pending.bytes.end as usize;
                        self.push(pending.reply_to, pending.script_misses + 1, |out| {
                            out.extend_from_slice(&sent[range]);
                            kind
                        });
                    }
                    (Fault::Command, _) => self.fail_all(&pending, &StoreError::Refused(text(error))),
                    (fault, _) => {
                        self.fail_all(&pending, &StoreError::Unreachable);
                        self.set_failing(reason_of(fault), text(error));
                    }
                },
                (Kind::EvalMany(script, orders), reply) => self.many_replies(&pending, script, orders, reply),
                (kind, reply) => self.answer(&pending.reply_to, decode(kind, &reply)),
            }
            if self.session.get() != session || self.state.get() == State::Down {
                return Ok(at);
            }
        }
        if self.state.get() == State::Failing && self.in_flight() == 0 {
            self.end_session();
        }
        Ok(at)
    }

    pub(super) fn answer(&self, reply_to: &ReplyTo, outcome: Outcome) {
        if outcome.is_err() && !matches!(reply_to, ReplyTo::Expired) {
            self.count(|stats| stats.errors += 1);
        }
        match reply_to {
            // False if the caller no longer waits; the reply is then discarded.
            ReplyTo::Caller(ticket) => drop(self.waiters.complete(*ticket, outcome)),
            ReplyTo::Batch(batch, index) => batch.complete(*index, outcome),
            ReplyTo::Connection | ReplyTo::Expired => {}
        }
    }

    /// Delivers the same error to every caller of this entry.
    pub(super) fn fail_all(&self, pending: &Pending, error: &StoreError) {
        for number in 0..pending.kind.commands() {
            self.answer(&pending.reply_to.nth(number), Err(error.clone()));
        }
    }

    /// Delivers the reply of each order in a group; an order that failed individually has an error in its
    /// place.
    pub(super) fn many_replies(&self, pending: &Pending, script: Script, orders: u32, reply: Reply<'_>) {
        let Reply::Array(replies) = reply else {
            let error = StoreError::Refused(format!("unexpected reply {reply:?} to {script:?}"));
            return self.fail_all(pending, &error);
        };
        let kind = Kind::Eval(script);
        let none = Reply::Error(b"ERR no reply");
        let mut replies = replies.chain(std::iter::repeat(none));
        for (number, reply) in (0..orders).zip(&mut replies) {
            let outcome = match reply {
                Reply::Error(error) if fault(error) == Fault::Command => {
                    Err(StoreError::Refused(text(error)))
                }
                Reply::Error(error) => {
                    self.set_failing(reason_of(fault(error)), text(error));
                    Err(StoreError::Unreachable)
                }
                reply => decode(kind, &reply),
            };
            self.answer(&pending.reply_to.nth(number), outcome);
        }
    }

    /// Called when the server cannot serve any command in its current state. No more commands are accepted.
    /// After the last outstanding reply the session ends, and a new one is started.
    pub(super) fn set_failing(&self, reason: Reason, error: String) {
        if self.state.get() == State::Up {
            self.state.set(State::Failing);
        }
        self.record_error(reason, error);
    }

    /// Loads a script again, once for all commands that currently miss it.
    pub(super) fn reload(&self, script: Script) {
        let bit = 1 << script as u32;
        if self.reloading.get() & bit == 0 {
            self.reloading.set(self.reloading.get() | bit);
            self.push(ReplyTo::Connection, 0, |out| {
                encode_internal(out, Internal::Reload(script), &self.settings.policy)
            });
        }
    }

    pub(super) fn internal_reply(&self, session: u64, internal: Internal, reply: &Reply<'_>) {
        match reply {
            _ if internal == Internal::Identify => self.identity.borrow_mut().on_info(reply),
            Reply::Error(error) => return self.internal_refused(session, internal, error),
            _ => {}
        }
        if let Internal::Load(script) | Internal::Reload(script) = internal {
            // A server that replies anything else is not a Redis and must not be used.
            let sha = if let Reply::Bulk(sha) = *reply { sha.try_into().ok() } else { None };
            let Some(sha) = sha else {
                return self.fail_session(session, Reason::Unsupported, "no SHA in reply to SCRIPT LOAD");
            };
            self.shas.borrow_mut().set(script, sha);
            self.reloading.set(self.reloading.get() & !(1 << script as u32));
        }
        if let Internal::Probe | Internal::ProbeSteps(..) = internal {
            self.is_probing.set(false);
            self.probed.set(Instant::now());
        }
        match self.state.get() {
            // All scripts are loaded, including the probe's: the probe is the last step of the handshake.
            State::Handshake(1) if !matches!(internal, Internal::Probe | Internal::ProbeSteps(..)) => {
                self.probe(true);
            }
            State::Handshake(1) => {
                self.state.set(State::Up);
                self.last_error.borrow_mut().clear();
                self.report_up();
                self.identity.borrow_mut().on_established();
                let is_again = self.sessions_established.replace(self.sessions_established.get() + 1) > 0;
                self.count(|stats| stats.reconnects += u64::from(is_again));
            }
            State::Handshake(missing) => self.state.set(State::Handshake(missing - 1)),
            _ => {}
        }
    }

    pub(in crate::redis) fn take_possible_loss(&self) -> Option<PossibleLoss> {
        self.identity.borrow_mut().take_loss()
    }

    pub(super) fn internal_refused(&self, session: u64, internal: Internal, error: &[u8]) {
        self.count(|stats| stats.errors += 1);
        let (refusal, fault) = (text(error), fault(error));
        match (self.state.get(), internal) {
            (State::Handshake(_), _) => {
                let reason = match (fault, internal) {
                    (Fault::Command, Internal::Auth) => Reason::Auth,
                    _ => reason_of(fault),
                };
                self.fail_session(session, reason, &format!("handshake refused: {refusal}"));
            }
            // SCRIPT FLUSH removed the script: reload it for the next probe.
            (_, Internal::ProbeSteps(script, _)) if fault == Fault::NoScript => {
                self.is_probing.set(false);
                self.reload(script);
            }
            _ => self.set_failing(reason_of(fault), refusal),
        }
    }

    /// Sends a probe, which checks whether the commands of an order would work.
    pub(super) fn probe(&self, is_handshake: bool) {
        self.is_probing.set(true);
        self.push(ReplyTo::Connection, 0, |out| match self.settings.role.probe() {
            Some(script) => encode_probe(out, script, is_handshake, &self.shas.borrow()),
            None => encode_internal(out, Internal::Probe, &self.settings.policy),
        });
    }

    pub(super) fn report_up(&self) {
        if let Some(reporter) = &self.reporter {
            reporter.up();
        }
    }
}
