//! The image of a state: its one encoding, and the way back.
//!
//! An image holds what leaves say and nothing more. Of a proposal it holds the leaf and the leaf's hash: record and payload
//! are read back from the log, so an image gives away nothing that was erased, and erasing needs to touch no image.
//! Only a fold of records has an image, for only then do all machines agree on it; a kernel with calls in flight has none.
//! It must not know files. Under other budgets an image of a snapshot is refused, and the log folded anew; where there is no
//! log to fold because it was pruned, counters of what is still counted go on and others begin at nothing.

use std::collections::{BTreeMap, BTreeSet};

use countersign_model::encoding::{DecodeError, EncodeError, from_canonical, to_canonical};
use countersign_model::id::{
    AgentId, Environment, HoldName, HumanId, LeaseName, RunId, SessionId, TicketId, ToolName, UpstreamId,
};
use countersign_model::record::{KillScope, VaultScope};
use countersign_model::unit::LeafIndex;
use countersign_model::{Body, Digest, Seq, TimeMs};
use minicbor::{Decode, Encode};

use crate::budget::BudgetsImage;
use crate::continuation::{Continuable, Continuables};
use crate::history::{Histories, HistoriesImage};
use crate::keep::Hold;
use crate::kernel::Kernel;
use crate::kill::KillState;
use crate::parked::{Parked, RefusedAs};
use crate::pins::Pins;
use crate::replay::Leaf;
use crate::revoked::Revoked;
use crate::settings::Settings;
use crate::state::{Activation, Begin, Human, Lease, Lifetime, Open, Session, State};

#[cfg(test)]
mod tests;

/// The version of the image and of what records mean to the fold. It changes with either, whatever the release is called.
///
/// From version 3 on an image can be all that is left of pruned records. So every later version must go on reading images
/// of version 3 and after in [`Kernel::restore_base`], also where it refuses them in [`Kernel::restore`].
pub const IMAGE_VERSION: u32 = 5;

/// The first version that knows what agents did before, and when leases began.
const HISTORIES_SINCE: u32 = 4;

/// The first version that knows calls that wait to be continued.
const CONTINUATIONS_SINCE: u32 = 5;

/// The oldest version that a pruned log can begin with.
const BASE_VERSION_MIN: u32 = 3;

/// Why a kernel has no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// It holds what no record on disk says: calls in flight.
    #[error("the state holds calls in flight: only a fold of records has an image")]
    InFlight,
    /// The encoder refused, which is a bug.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// Why an image gives no kernel. The log folded from its first record always does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The bytes are no image.
    #[error("not the image of a state: {0}")]
    Malformed(#[from] DecodeError),
    /// The image or the meaning of records was another.
    #[error("the image has version {found}, this build reads version {IMAGE_VERSION}")]
    Version {
        /// The image's.
        found: u32,
    },
    /// Another release made it.
    #[error("the image was made by version {found}, this is {ours}")]
    Release {
        /// The image's.
        found: String,
        /// This build's.
        ours: String,
    },
    /// It is of another log.
    #[error("the image is of the log `{found}`")]
    Log {
        /// The image's.
        found: String,
    },
    /// Budgets or the longest life of a token are not what they were.
    #[error("budgets or the longest life of a token have changed since the image was made")]
    Rules,
    /// The image contradicts itself.
    #[error("the image contradicts itself: {0}")]
    Inconsistent(&'static str),
    /// A record that it points to is not there, or is another.
    #[error("record `{leaf}` is not the one that the image points to")]
    Record {
        /// Where.
        leaf: LeafIndex,
    },
}

/// The digest by which a record commits to an image.
#[must_use]
pub fn image_digest(image: &[u8]) -> Digest {
    Digest::of("countersign state v1", &[image])
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Image {
    #[n(0)]
    version: u32,
    #[n(1)]
    release: String,
    #[n(2)]
    log: String,
    #[n(3)]
    rules: Digest,
    #[n(4)]
    now: TimeMs,
    #[n(5)]
    next: Seq,
    #[n(6)]
    budgets: BudgetsImage,
    #[n(7)]
    parked: BTreeMap<TicketId, ParkedImage>,
    /// By the leaf of the proposal that was refused.
    #[n(8)]
    refused: BTreeMap<LeafIndex, RefusedImage>,
    /// Intents without an outcome, with their leaves.
    #[n(9)]
    open: BTreeMap<Seq, LeafIndex>,
    #[n(10)]
    kill_epoch: u64,
    #[n(11)]
    killed: BTreeSet<KillScope>,
    #[n(12)]
    freezes: BTreeMap<Environment, TimeMs>,
    #[n(13)]
    humans: BTreeMap<HumanId, HumanImage>,
    #[n(14)]
    sessions: BTreeMap<SessionId, SessionImage>,
    #[n(15)]
    runs: BTreeMap<RunId, BTreeSet<SessionId>>,
    #[n(16)]
    activation: Option<ActivationImage>,
    #[n(17)]
    clock_doubt: Option<TimeMs>,
    #[n(18)]
    holds: BTreeMap<HoldName, HoldImage>,
    /// Erasures that were ordered and are not on record as done.
    #[n(19)]
    erasures: BTreeSet<VaultScope>,
    #[n(20)]
    lifetime: Option<Lifetime>,
    /// What each budget counts, in the order of their numbers.
    #[n(21)]
    counted: Vec<String>,
    #[n(22)]
    pruned: Option<Begin>,
    /// Definitions of tools that ran; absent where none did, and in images of version 3.
    #[n(23)]
    pins: Option<BTreeMap<UpstreamId, BTreeMap<ToolName, Digest>>>,
    /// What agents did before; absent before version 4.
    #[n(24)]
    histories: Option<HistoriesImage>,
    /// What open intents leave behind if they are answered with a question; absent before version 5.
    #[n(25)]
    calls: Option<BTreeMap<Seq, Continuable>>,
    /// Calls that wait to be continued; absent before version 5.
    #[n(26)]
    continuables: Option<BTreeMap<LeafIndex, Continuable>>,
    /// Blocks of tokens that were revoked, until when; absent where none are, and before version 5.
    #[n(27)]
    revoked: Option<BTreeMap<Digest, TimeMs>>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct HoldImage {
    #[n(0)]
    scope: Option<VaultScope>,
    #[n(1)]
    since: TimeMs,
    #[n(2)]
    human: HumanId,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct ParkedImage {
    #[n(0)]
    leaf: LeafIndex,
    #[n(1)]
    leaf_hash: Digest,
    #[n(2)]
    expires: TimeMs,
    #[n(3)]
    consents: BTreeSet<HumanId>,
    #[n(4)]
    is_granted: bool,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct RefusedImage {
    #[n(0)]
    leaf_hash: Digest,
    #[n(1)]
    human: HumanId,
    #[n(2)]
    expires: TimeMs,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct HumanImage {
    #[cbor(n(0), with = "minicbor::bytes")]
    key: [u8; 32],
    #[n(1)]
    enrolled: TimeMs,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct SessionImage {
    #[n(0)]
    agent: Option<AgentId>,
    #[n(1)]
    run: Option<RunId>,
    #[n(2)]
    expires: TimeMs,
    #[n(3)]
    revoked: bool,
    #[n(4)]
    leases: BTreeMap<LeaseName, TimeMs>,
    /// When each began; absent before version 4.
    #[n(5)]
    begun: Option<BTreeMap<LeaseName, TimeMs>>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct ActivationImage {
    #[n(0)]
    configuration: Digest,
    #[n(1)]
    policy: Digest,
    #[n(2)]
    serial: u64,
}

impl Kernel {
    /// The one encoding of a state that is a fold of records.
    ///
    /// # Errors
    /// [`ImageError::InFlight`] for a kernel that holds more than records say.
    pub fn image(&self) -> Result<Vec<u8>, ImageError> {
        if self.has_calls_in_flight() {
            return Err(ImageError::InFlight);
        }
        Ok(to_canonical(&image_of(&self.state, &self.settings).ok_or(ImageError::InFlight)?)?)
    }

    /// The kernel whose image this is. `read` gives records of the log by leaf; what it gives is checked by hash.
    ///
    /// A proposal whose payload is gone no longer waits, as when the log is folded from its first record.
    ///
    /// # Errors
    /// [`RestoreError`]: then the log has to be folded from an older image or from its first record.
    pub fn restore(
        settings: Settings,
        image: &[u8],
        read: &mut dyn FnMut(LeafIndex) -> Option<Leaf>,
    ) -> Result<Self, RestoreError> {
        let mut image: Image = from_canonical(image)?;
        fits(&image, &settings)?;
        let mut state = State::new(settings.budgets.clone());
        let counters = std::mem::take(&mut image.budgets);
        state.budgets.restore(counters).map_err(RestoreError::Inconsistent)?;
        fill(state, image, settings, read)
    }

    /// The kernel with which a pruned log begins. As [`Kernel::restore`], but by any later release and under any settings:
    /// counters go on for what is still counted, whatever its cap, and begin at nothing for what was not counted then.
    ///
    /// # Errors
    /// [`RestoreError`]: then there is nothing to fold the log from.
    pub fn restore_base(
        settings: Settings,
        image: &[u8],
        read: &mut dyn FnMut(LeafIndex) -> Option<Leaf>,
    ) -> Result<Self, RestoreError> {
        let mut image: Image = from_canonical(image)?;
        if !(BASE_VERSION_MIN..=IMAGE_VERSION).contains(&image.version) {
            return Err(RestoreError::Version { found: image.version });
        }
        is_of_this_log(&image, &settings)?;
        let mut state = State::new(settings.budgets.clone());
        let counters = std::mem::take(&mut image.budgets);
        state.budgets.adopt(counters, &image.counted).map_err(RestoreError::Inconsistent)?;
        fill(state, image, settings, read)
    }

    /// The proposals that an image points to, waiting or refused, with their leaf hashes: whoever wants to restore it needs
    /// their records.
    ///
    /// # Errors
    /// [`RestoreError::Malformed`] where the bytes are no image.
    pub fn leaves_of_image(image: &[u8]) -> Result<BTreeMap<LeafIndex, Digest>, RestoreError> {
        let image: Image = from_canonical(image)?;
        let waiting = image.parked.values().map(|parked| (parked.leaf, parked.leaf_hash));
        Ok(waiting.chain(image.refused.iter().map(|(leaf, refused)| (*leaf, refused.leaf_hash))).collect())
    }
}

/// Everything but budgets, which depend on the settings.
fn fill(
    mut state: State,
    mut image: Image,
    settings: Settings,
    read: &mut dyn FnMut(LeafIndex) -> Option<Leaf>,
) -> Result<Kernel, RestoreError> {
    state.now = image.now;
    state.next = image.next;
    (state.open, state.continuables) = calls(&mut image).ok_or(RestoreError::Inconsistent(CALLS))?;
    state.kill = KillState { epoch: image.kill_epoch, scopes: image.killed };
    state.freezes = image.freezes;
    state.humans = image.humans.into_iter().map(|(id, h)| (id, Human { key: h.key, enrolled: h.enrolled })).collect();
    let sessions = image.sessions.into_iter().map(|(id, session)| Some((id, session.session(image.version)?)));
    let sessions = sessions.collect::<Option<_>>().ok_or(RestoreError::Inconsistent("leases without a beginning"))?;
    state.restore_sessions(sessions, image.runs);
    state.activation =
        image.activation.map(|a| Activation { configuration: a.configuration, policy: a.policy, serial: a.serial });
    state.clock_doubt = image.clock_doubt;
    let hold = |HoldImage { scope, since, human }| Hold { scope, since, human };
    state.keep.holds = image.holds.into_iter().map(|(name, held)| (name, hold(held))).collect();
    state.keep.erasures = image.erasures;
    state.lifetime = image.lifetime;
    state.pruned = image.pruned;
    state.pins = Pins::of(image.pins.unwrap_or_default());
    state.histories = match (image.histories, image.version) {
        (Some(histories), HISTORIES_SINCE..) => Histories::restore(histories),
        // Nothing is known: every host is new. What windows counted before the base is not in them.
        (None, ..HISTORIES_SINCE) => Histories::default(),
        _ => return Err(RestoreError::Inconsistent("histories that its version does not have, or none")),
    };
    state.revoked = Revoked::of(image.revoked.unwrap_or_default());
    for (ticket, parked) in image.parked {
        park(&mut state, ticket, parked, read)?;
    }
    for (leaf, refused) in image.refused {
        refuse(&mut state, leaf, refused, read)?;
    }
    Ok(Kernel::of(settings, state))
}

const CALLS: &str = "calls to continue that its version does not have, or none, or of no open intent";

/// Intents without an outcome and calls that wait, of an image of this version. Of an intent that an older version left
/// open nothing more is known: it cannot be continued.
fn calls(image: &mut Image) -> Option<(BTreeMap<Seq, Open>, Continuables)> {
    let (mut known, waiting) = match (image.calls.take(), image.continuables.take(), image.version) {
        (Some(known), Some(waiting), CONTINUATIONS_SINCE..) => (known, waiting),
        (None, None, ..CONTINUATIONS_SINCE) => Default::default(),
        _ => return None,
    };
    let one = |(seq, leaf): (Seq, LeafIndex)| {
        let call = known.remove(&seq);
        (seq, Open { leaf: Some(leaf), lost: false, pinned: None, call, continued: None })
    };
    let open = std::mem::take(&mut image.open).into_iter().map(one).collect();
    known.is_empty().then(|| (open, Continuables::restore(waiting)))
}

fn image_of(state: &State, settings: &Settings) -> Option<Image> {
    let parked = state.parked.iter().map(|(ticket, parked)| Some((ticket.clone(), ParkedImage::of(parked)?)));
    let refused = state.refused.values().map(|refused| {
        let RefusedAs { human, expires, leaf, leaf_hash, .. } = refused.clone();
        (leaf, RefusedImage { leaf_hash, human, expires })
    });
    let open = state.open.iter().map(|(call, open)| Some((*call, open.leaf.filter(|_| !open.lost)?)));
    let sessions = state.sessions.iter().map(|(id, session)| (id.clone(), session.clone().into()));
    Some(Image {
        version: IMAGE_VERSION,
        release: settings.version.clone(),
        log: settings.log.clone(),
        rules: rules(settings),
        now: state.now,
        next: state.next,
        budgets: state.budgets.image(),
        parked: parked.collect::<Option<_>>()?,
        refused: refused.collect(),
        open: open.collect::<Option<_>>()?,
        kill_epoch: state.kill.epoch,
        killed: state.kill.scopes.clone(),
        freezes: state.freezes.clone(),
        humans: state
            .humans
            .iter()
            .map(|(id, h)| (id.clone(), HumanImage { key: h.key, enrolled: h.enrolled }))
            .collect(),
        sessions: sessions.collect(),
        runs: state.runs().clone(),
        activation: state.activation.map(|a| ActivationImage {
            configuration: a.configuration,
            policy: a.policy,
            serial: a.serial,
        }),
        clock_doubt: state.clock_doubt,
        holds: state.keep.holds.iter().map(|(name, hold)| (name.clone(), hold.clone().into())).collect(),
        erasures: state.keep.erasures.clone(),
        lifetime: state.lifetime.clone(),
        counted: counted(settings),
        pruned: state.pruned,
        pins: Some(state.pins.known.clone()).filter(|pins| !pins.is_empty()),
        histories: Some(state.histories.image()),
        calls: Some(state.open.iter().filter_map(|(seq, open)| Some((*seq, open.call.clone()?))).collect()),
        continuables: Some(state.continuables.image()),
        revoked: Some(state.revoked.known().clone()).filter(|revoked| !revoked.is_empty()),
    })
}

/// Whether an image means under these settings what it meant when it was made.
fn fits(image: &Image, settings: &Settings) -> Result<(), RestoreError> {
    if image.version != IMAGE_VERSION {
        return Err(RestoreError::Version { found: image.version });
    }
    if image.release != settings.version {
        return Err(RestoreError::Release { found: image.release.clone(), ours: settings.version.clone() });
    }
    is_of_this_log(image, settings)?;
    if image.rules != rules(settings) || image.counted != counted(settings) {
        return Err(RestoreError::Rules);
    }
    Ok(())
}

fn is_of_this_log(image: &Image, settings: &Settings) -> Result<(), RestoreError> {
    if image.log == settings.log { Ok(()) } else { Err(RestoreError::Log { found: image.log.clone() }) }
}

/// What each budget counts.
fn counted(settings: &Settings) -> Vec<String> {
    settings.budgets.iter().map(crate::BudgetRule::counts).collect()
}

/// The digest of all settings that the fold of a record reads: budgets, and how long a revocation is remembered.
/// Agents, tenant, policy and the other limits are read by decisions only, and may change.
fn rules(settings: &Settings) -> Digest {
    let words: Vec<String> = settings.budgets.iter().map(crate::BudgetRule::words).collect();
    let token_ms = settings.limits.token_ttl_max_ms.to_be_bytes();
    let parts: Vec<&[u8]> = std::iter::once(token_ms.as_slice()).chain(words.iter().map(String::as_bytes)).collect();
    Digest::of("countersign fold rules v1", &parts)
}

fn park(
    state: &mut State,
    ticket: TicketId,
    image: ParkedImage,
    read: &mut dyn FnMut(LeafIndex) -> Option<Leaf>,
) -> Result<(), RestoreError> {
    let ParkedImage { leaf, leaf_hash, expires, consents, is_granted } = image;
    let found = proposal(leaf, leaf_hash, read)?;
    let Body::Proposal(proposal) = found.record.body else {
        return Err(RestoreError::Record { leaf });
    };
    if proposal.attempt.ticket.as_ref() != Some(&ticket) {
        return Err(RestoreError::Record { leaf });
    }
    let Some(payload) = found.payload.filter(|payload| payload.opens(&proposal.attempt)) else {
        return Ok(());
    };
    if state.parked_by_digest.insert(payload.digest, ticket.clone()).is_some() {
        return Err(RestoreError::Inconsistent("two proposals of one action wait"));
    }
    let parked = Parked {
        ticket: ticket.clone(),
        proposal: *proposal,
        payload,
        expires,
        leaf: Some(leaf),
        leaf_hash: Some(leaf_hash),
        consents,
        is_granted,
    };
    state.parked.insert(ticket, parked);
    Ok(())
}

fn refuse(
    state: &mut State,
    leaf: LeafIndex,
    image: RefusedImage,
    read: &mut dyn FnMut(LeafIndex) -> Option<Leaf>,
) -> Result<(), RestoreError> {
    let RefusedImage { leaf_hash, human, expires } = image;
    let found = proposal(leaf, leaf_hash, read)?;
    let attempt = found.record.body.attempt().ok_or(RestoreError::Record { leaf })?;
    if let Some(payload) = found.payload.as_ref().filter(|payload| payload.opens(attempt)) {
        let ticket = attempt.ticket.clone().ok_or(RestoreError::Record { leaf })?;
        state.refused.insert(payload.digest, RefusedAs { ticket, human, expires, leaf, leaf_hash });
    }
    Ok(())
}

/// The proposal that an image points to.
fn proposal(
    leaf: LeafIndex,
    leaf_hash: Digest,
    read: &mut dyn FnMut(LeafIndex) -> Option<Leaf>,
) -> Result<Leaf, RestoreError> {
    read(leaf).filter(|found| found.leaf == leaf && found.leaf_hash == leaf_hash).ok_or(RestoreError::Record { leaf })
}

impl ParkedImage {
    fn of(parked: &Parked) -> Option<Self> {
        Some(Self {
            leaf: parked.leaf?,
            leaf_hash: parked.leaf_hash?,
            expires: parked.expires,
            consents: parked.consents.clone(),
            is_granted: parked.is_granted,
        })
    }
}

impl From<Hold> for HoldImage {
    fn from(hold: Hold) -> Self {
        let Hold { scope, since, human } = hold;
        Self { scope, since, human }
    }
}

impl From<Session> for SessionImage {
    fn from(session: Session) -> Self {
        let Session { agent, run, expires, revoked, leases } = session;
        let begun = leases.iter().map(|(name, lease)| (name.clone(), lease.since)).collect();
        let leases = leases.into_iter().map(|(name, lease)| (name, lease.until)).collect();
        Self { agent, run, expires, revoked, leases, begun: Some(begun) }
    }
}

impl SessionImage {
    /// The session, of an image of this version. When a lease began that older versions did not keep, nobody knows: it
    /// counts as the oldest there can be.
    fn session(self, version: u32) -> Option<Session> {
        let Self { agent, run, expires, revoked, leases, begun } = self;
        let begun = match begun {
            Some(begun) if version >= HISTORIES_SINCE && begun.keys().eq(leases.keys()) => begun,
            None if version < HISTORIES_SINCE => BTreeMap::new(),
            _ => return None,
        };
        let lease = |(name, until)| {
            let since = begun.get(&name).copied().unwrap_or(TimeMs(0));
            (name, Lease { since, until })
        };
        let leases = leases.into_iter().map(lease).collect();
        Some(Session { agent, run, expires, revoked, leases })
    }
}
