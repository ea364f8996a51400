//! What a new owner of a slot reads before it decides anything: the state of its lanes, all grants
//! of its lanes, and what its predecessor may have shown and never committed. Comes after
//! `init_transactions`, which ended and fenced the predecessor; every "to the end" below means the
//! high watermark taken after that.

use std::collections::VecDeque;
use std::sync::Arc;

use mz_bus::{BusOptions, Isolation, Position, Reader, Record, Stretch, lanes_of, read_stretches};
use mz_journal::{Grant, InForce, Record as _, State, topics};
use mz_policy::{GrantsIndex, Now};
use rustc_hash::FxHashMap;

use crate::contract;
use crate::engine::Engine;
use crate::error::Error;
use crate::exposure::{self, Exposed};
use crate::fence::Seen;
use crate::grants::{self, GrantsRecord};
use crate::lane::Lane;
use crate::options::Options;
use crate::plan::Plan;
use crate::telemetry;

/// How far back the state of a lane is looked for at first. It is written in every transaction, so
/// it is nearly always the last record but a few.
const STATE_LOOK_BACK: i64 = 256;

/// The reader positioned, the memory filled.
pub(crate) struct TakenOver {
    pub reader: Reader,
    /// Another connection, for questions: on the reader's own they would wait behind its long
    /// fetches.
    pub asker: Reader,
    pub engine: Engine,
    /// Must be audited before anything else is produced.
    pub exposed: Vec<Exposed>,
    /// What of `bus.state` this owner has seen: whatever else is written there comes later.
    pub seen: Seen,
}

/// Refuses lane topics with another partition count than the contract's.
pub(crate) fn check_topics(bus: &BusOptions, plan: &Plan) -> Result<(), Error> {
    let reader = Reader::open(bus, Isolation::Committed)?;
    let expected = plan.contract.lanes;
    let named = plan.sources.iter().map(|source| source.topic.as_str());
    let outputs = plan.outputs.iter().map(|output| output.topic.as_str());
    let own = [
        topics::STATE,
        topics::GRANTS,
        topics::FETCH,
        topics::FACTS,
        topics::ORDERS,
        topics::AUDIT,
    ];
    for topic in named.chain(outputs).chain(own) {
        let found = reader.partitions(topic)?;
        if found != usize::from(expected) {
            return Err(Error::PartitionCount {
                topic: topic.to_owned(),
                expected,
                found,
            });
        }
    }
    Ok(())
}

/// Reads everything that the slot must know. `plan`: of the contract that the slot has; another one is
/// loaded when `bus.grants` says that it is in force.
pub(crate) fn read(
    options: &Options,
    plan: &Arc<Plan>,
    slot: u32,
    now: Now,
) -> Result<TakenOver, Error> {
    let lanes: Vec<u16> = lanes_of(slot, options.slots, plan.contract.lanes).collect();
    let mut reader = Reader::open(&options.bus, Isolation::Committed)?;
    // Asked without isolation, the end of a partition lies behind open transactions too.
    let mut raw = Reader::open(&options.bus, Isolation::Uncommitted)?;

    let (mut states, seen) = read_states(&mut reader, &raw, &lanes)?;
    let recorded = |lane: &u16| states.get(lane).map_or(0, |state| state.grants_position);
    let known: Vec<(u16, i64)> = lanes.iter().map(|lane| (*lane, recorded(lane))).collect();
    let loaded = read_grants(&mut reader, &raw, &known, options.grant_limit)?;
    let plan = match &loaded.in_force {
        Some(in_force) if in_force.digest != plan.contract.digest => {
            let contract = contract::load(options, in_force)?;
            let plan = Arc::new(Plan::new(contract, &options.keys));
            check_topics(&options.bus, &plan)?;
            plan
        }
        _ => Arc::clone(plan),
    };
    // The version came into force when the first of the slot's lanes passed it; then all of them said so.
    let announced = loaded.lanes.iter().any(|lane| lane.passed);
    let version = loaded.in_force.as_ref().map_or(0, |found| found.version);
    let lanes = loaded.lanes.into_iter().map(|grants| {
        let state = states.remove(&grants.lane);
        let other = state.as_ref().map(|state| state.contract) != Some(plan.contract.digest);
        let mut lane = Lane::restore(grants.lane, state, &plan);
        lane.announce = version > 0 && (other || !announced);
        lane.grants_position = grants.position;
        lane.grants_read = grants.read;
        lane.fresh_grants = !grants.pending.is_empty();
        lane.pending_grants = grants.pending;
        lane
    });
    let lanes: Vec<Lane> = lanes.collect();
    let mut engine = Engine::new(options, plan, lanes, loaded.index, now);
    engine.version = version;
    let exposed = exposure::scan(&mut raw, &mut reader, &mut engine)?;
    assign(&mut reader, &raw, &mut engine)?;
    raw.assign::<&str>(&[])?;
    Ok(TakenOver {
        reader,
        asker: raw,
        engine,
        exposed,
        seen,
    })
}

/// Decides under `in_force` from the next transaction on: loads it unless it is the contract that the slot
/// has, lays the engine out for it and reads its sources from where the lanes stand.
pub(crate) fn switch(
    options: &Options,
    reader: &mut Reader,
    raw: &Reader,
    engine: &mut Engine,
    in_force: &InForce,
) -> Result<(), Error> {
    let plan = if in_force.digest == engine.plan.contract.digest {
        Arc::clone(&engine.plan)
    } else {
        let contract = contract::load(options, in_force)?;
        let plan = Arc::new(Plan::new(contract, &options.keys));
        check_topics(&options.bus, &plan)?;
        plan
    };
    engine.switch(plan, in_force.version);
    assign(reader, raw, engine)
}

/// The newest state of each lane; a lane without one was never touched. And where the topic ended then.
fn read_states(
    reader: &mut Reader,
    raw: &Reader,
    lanes: &[u16],
) -> Result<(FxHashMap<u16, State>, Seen), Error> {
    let mut states = FxHashMap::default();
    let mut seen = Seen::default();
    let mut wanted = Vec::new();
    for lane in lanes {
        let (low, high) = raw.watermarks(topics::STATE, i32::from(*lane))?;
        seen.insert(*lane, high);
        if low < high {
            wanted.push((*lane, low, high));
        }
    }
    let mut look_back = STATE_LOOK_BACK;
    while !wanted.is_empty() {
        let stretches: Vec<Stretch<'_>> = wanted
            .iter()
            .map(|(lane, low, high)| Stretch {
                topic: topics::STATE,
                lane: *lane,
                from: (high - look_back).max(*low),
                to: *high,
            })
            .collect();
        let mut fault = None;
        read_stretches(reader, &stretches, |record| {
            let key = record.key.and_then(topics::parse_state_key);
            let Some((topics::SlotKind::Gateway, lane)) = key else {
                return;
            };
            let Some(value) = record.value else { return };
            match State::decode(value) {
                Ok(state) => {
                    states.insert(lane, state);
                }
                Err(source) => {
                    fault = Some(Error::StateMalformed {
                        topic: topics::STATE,
                        lane,
                        offset: record.offset,
                        source,
                    });
                }
            }
        })?;
        if let Some(fault) = fault {
            return Err(fault);
        }
        // Not found: further back, up to the beginning.
        wanted.retain(|(lane, low, high)| !states.contains_key(lane) && high - look_back > *low);
        look_back = look_back.saturating_mul(64);
    }
    Ok((states, seen))
}

/// `bus.grants` of one lane, read to its end.
struct LaneGrants {
    lane: u16,
    /// Everything below was in force with the last committed transaction.
    position: i64,
    read: i64,
    /// What came behind.
    pending: VecDeque<(i64, Grant)>,
    /// The newest contract of this lane, and whether it lies below the position.
    contract: Option<InForce>,
    passed: bool,
}

/// Of all lanes of a slot.
struct Loaded {
    index: GrantsIndex,
    lanes: Vec<LaneGrants>,
    /// The newest of all lanes.
    in_force: Option<InForce>,
}

/// All grants of the slot's lanes. What the last committed transaction had in force joins now; what
/// came behind it comes into force with the first transaction, which asks for its facts. The newest
/// contract counts wherever it lies: nothing is decided under an older one any more.
fn read_grants(
    reader: &mut Reader,
    raw: &Reader,
    known: &[(u16, i64)],
    limit: usize,
) -> Result<Loaded, Error> {
    let mut stretches = Vec::new();
    let mut lanes = Vec::new();
    let mut at: FxHashMap<i32, usize> = FxHashMap::default();
    for (lane, recorded) in known {
        let stretch = Stretch::whole(raw, topics::GRANTS, *lane)?;
        let (low, high) = (stretch.from, stretch.to);
        // A position that compaction or a lost cluster left behind or ahead of the log.
        let position = (*recorded).clamp(low.min(high), high);
        at.insert(i32::from(*lane), lanes.len());
        lanes.push(LaneGrants {
            lane: *lane,
            position,
            read: position,
            pending: VecDeque::new(),
            contract: None,
            passed: false,
        });
        stretches.push(stretch);
    }
    let mut index = GrantsIndex::new(limit);
    let mut fault = None;
    read_stretches(reader, &stretches, |record| {
        if fault.is_none()
            && let Some(at) = at.get(&record.partition)
        {
            fault = lanes[*at].take(&mut index, record).err();
        }
    })?;
    if let Some(fault) = fault {
        return Err(fault);
    }
    let mut in_force: Option<InForce> = None;
    for (lane, stretch) in lanes.iter_mut().zip(&stretches) {
        lane.read = stretch.to.max(lane.read);
        let known = in_force.as_ref().map_or(0, |known| known.version);
        if let Some(found) = &lane.contract
            && found.version > known
        {
            in_force = Some(found.clone());
        }
    }
    for lane in &mut lanes {
        let of = |found: &Option<InForce>| found.as_ref().map(|found| found.version);
        lane.passed &= of(&lane.contract) == of(&in_force);
    }
    Ok(Loaded {
        index,
        lanes,
        in_force,
    })
}

impl LaneGrants {
    fn take(&mut self, index: &mut GrantsIndex, record: &Record<'_>) -> Result<(), Error> {
        let below = record.offset < self.position;
        match grants::read(self.lane, record)? {
            GrantsRecord::Grant(grant) if below => {
                index.join(grant)?;
            }
            GrantsRecord::Grant(grant) => {
                self.pending.push_back((record.offset, grant.to_owned()));
            }
            GrantsRecord::Contract(found) => {
                let known = self.contract.as_ref().map_or(0, |known| known.version);
                if found.version > known {
                    (self.contract, self.passed) = (Some(found), below);
                }
            }
            GrantsRecord::Gone => {}
        }
        if !below {
            self.read = record.offset + 1;
        }
        Ok(())
    }
}

/// The grants of one slot's lanes, loaded as its next owner would load them, with every one of them in
/// force already: what a take-over costs, without taking anything over.
///
/// # Errors
/// As a take-over: the cluster, a grant that can't be read, more grants than the limit.
pub fn load_grants(options: &Options, slot: u32) -> Result<GrantsIndex, Error> {
    let mut reader = Reader::open(&options.bus, Isolation::Committed)?;
    let raw = Reader::open(&options.bus, Isolation::Uncommitted)?;
    // Moved back to the high watermark when that is known.
    let known: Vec<(u16, i64)> = lanes_of(slot, options.slots, options.contract.lanes)
        .map(|lane| (lane, i64::MAX))
        .collect();
    let loaded = read_grants(&mut reader, &raw, &known, options.grant_limit)?;
    Ok(loaded.index)
}

/// Goes on where the state stopped.
fn assign(reader: &mut Reader, raw: &Reader, engine: &mut Engine) -> Result<(), Error> {
    let mut assignment: Vec<(String, i32, Position)> = Vec::new();
    for lane in &mut engine.lanes {
        let partition = i32::from(lane.lane);
        for (source, position) in engine.plan.sources.iter().zip(&mut lane.positions) {
            let (low, _) = raw.watermarks(&source.topic, partition)?;
            if position.is_some_and(|position| position < low) {
                tracing::error!(
                    topic = source.topic,
                    lane = lane.lane,
                    wanted = *position,
                    first = low,
                    "the topic no longer has the records where this lane stopped"
                );
                telemetry::offsets_lost(&source.topic, lane.lane);
            }
            if low > 0 {
                *position = Some(position.unwrap_or(low).max(low));
            }
            let from = position.map_or(Position::Beginning, Position::Offset);
            assignment.push((source.topic.clone(), partition, from));
        }
        // Replies older than the topic's retention belong to attempts that are asked again anyway.
        let (low, _) = raw.watermarks(topics::FACTS, partition)?;
        let facts = lane.facts_position.unwrap_or(low).max(low);
        lane.facts_position = Some(facts);
        assignment.push((topics::FACTS.to_owned(), partition, Position::Offset(facts)));
        let (low, _) = raw.watermarks(topics::ORDERS, partition)?;
        if lane.orders_position.is_some_and(|position| position < low) {
            // Consent finds out by itself: an order that nobody answered is given again.
            tracing::error!(
                lane = lane.lane,
                "orders are gone that this lane never read"
            );
            telemetry::offsets_lost(topics::ORDERS, lane.lane);
        }
        let orders = lane.orders_position.unwrap_or(low).max(low);
        lane.orders_position = Some(orders);
        let from = Position::Offset(orders);
        assignment.push((topics::ORDERS.to_owned(), partition, from));
        let grants = Position::Offset(lane.grants_read);
        assignment.push((topics::GRANTS.to_owned(), partition, grants));
    }
    reader.assign(&assignment)?;
    Ok(())
}
