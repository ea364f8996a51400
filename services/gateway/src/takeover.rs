//! What a new owner of a slot reads before it decides anything: the state of its lanes, all grants
//! of its lanes, and what its predecessor may have shown and never committed. Comes after
//! `init_transactions`, which ended and fenced the predecessor; every "to the end" below means the
//! high watermark taken after that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mz_bus::{BusError, BusOptions, Isolation, Polled, Position, Reader, Record, lanes_of};
use mz_journal::{Record as _, State, topics};
use mz_policy::{GrantsIndex, Now};
use rustc_hash::FxHashMap;

use crate::engine::{Engine, read_grant};
use crate::error::Error;
use crate::exposure::{self, Exposed};
use crate::lane::Lane;
use crate::options::Options;
use crate::plan::Plan;
use crate::telemetry;

/// How far back the state of a lane is looked for at first. It is written in every transaction, so
/// it is nearly always the last record but a few.
const STATE_LOOK_BACK: i64 = 256;
/// Reading to the end waits for open transactions of other writers, which end or time out.
const PATIENCE: Duration = Duration::from_secs(60);

/// The reader positioned, the memory filled.
pub(crate) struct TakenOver {
    pub reader: Reader,
    /// Another connection, for questions: on the reader's own they would wait behind its long
    /// fetches.
    pub asker: Reader,
    pub engine: Engine,
    /// Must be audited before anything else is produced.
    pub exposed: Vec<Exposed>,
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

/// Reads everything that the slot must know.
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

    let mut states = read_states(&mut reader, &raw, &lanes)?;
    let lanes: Vec<Lane> = lanes
        .iter()
        .map(|lane| Lane::restore(*lane, states.remove(lane), plan))
        .collect();
    let grants = GrantsIndex::new(options.grant_limit);
    let mut engine = Engine::new(options, Arc::clone(plan), lanes, grants, now);
    read_grants(&mut reader, &raw, &mut engine)?;
    let exposed = exposure::scan(&mut raw, &mut reader, &mut engine)?;
    assign(&mut reader, &raw, &mut engine)?;
    raw.assign::<&str>(&[])?;
    Ok(TakenOver {
        reader,
        asker: raw,
        engine,
        exposed,
    })
}

/// The newest state of each lane; a lane without one was never touched.
fn read_states(
    reader: &mut Reader,
    raw: &Reader,
    lanes: &[u16],
) -> Result<FxHashMap<u16, State>, Error> {
    let mut states = FxHashMap::default();
    let mut wanted = Vec::new();
    for lane in lanes {
        let (low, high) = raw.watermarks(topics::STATE, i32::from(*lane))?;
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
    Ok(states)
}

/// The grants of one slot's lanes, loaded as its next owner would load them, with every one of them in
/// force already: what a takeover costs, without taking anything over.
///
/// # Errors
/// As a takeover: the cluster, a grant that can't be read, more grants than the limit.
pub fn load_grants(options: &Options, slot: u32, now: Now) -> Result<GrantsIndex, Error> {
    let plan = Arc::new(Plan::new(Arc::clone(&options.contract), &options.keys));
    let mut reader = Reader::open(&options.bus, Isolation::Committed)?;
    let raw = Reader::open(&options.bus, Isolation::Uncommitted)?;
    let lanes: Vec<Lane> = lanes_of(slot, options.slots, plan.contract.lanes)
        .map(|lane| {
            let mut lane = Lane::restore(lane, None, &plan);
            // Moved back to the high watermark when that is known.
            lane.grants_position = i64::MAX;
            lane
        })
        .collect();
    let grants = GrantsIndex::new(options.grant_limit);
    let mut engine = Engine::new(options, plan, lanes, grants, now);
    read_grants(&mut reader, &raw, &mut engine)?;
    Ok(engine.grants)
}

/// All grants of the slot's lanes. What the last committed transaction had in force joins now; what
/// came behind it comes into force with the first transaction, which asks for its facts.
fn read_grants(reader: &mut Reader, raw: &Reader, engine: &mut Engine) -> Result<(), Error> {
    let mut stretches = Vec::new();
    for lane in &mut engine.lanes {
        let (low, high) = raw.watermarks(topics::GRANTS, i32::from(lane.lane))?;
        // A position that compaction or a lost cluster left behind or ahead of the log.
        lane.grants_position = lane.grants_position.clamp(low.min(high), high);
        lane.grants_read = lane.grants_position;
        stretches.push(Stretch {
            topic: topics::GRANTS,
            lane: lane.lane,
            from: low,
            to: high,
        });
    }
    let mut fault = None;
    read_stretches(reader, &stretches, |record| {
        if fault.is_none() {
            fault = load_grant(engine, record).err();
        }
    })?;
    if let Some(fault) = fault {
        return Err(fault);
    }
    for stretch in &stretches {
        if let Some(at) = engine.lane_at(i32::from(stretch.lane)) {
            let lane = &mut engine.lanes[at];
            lane.grants_read = stretch.to.max(lane.grants_read);
        }
    }
    Ok(())
}

fn load_grant(engine: &mut Engine, record: &Record<'_>) -> Result<(), Error> {
    let Some(at) = engine.lane_at(record.partition) else {
        return Ok(());
    };
    let lane = &mut engine.lanes[at];
    if record.offset >= lane.grants_position {
        return engine.grant(at, record);
    }
    if let Some(grant) = read_grant(lane.lane, record)? {
        engine.grants.join(grant)?;
    }
    Ok(())
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
        let grants = Position::Offset(lane.grants_read);
        assignment.push((topics::GRANTS.to_owned(), partition, grants));
    }
    reader.assign(&assignment)?;
    Ok(())
}

/// Part of one lane of one topic: from an offset to a high watermark.
pub(crate) struct Stretch<'t> {
    pub topic: &'t str,
    pub lane: u16,
    pub from: i64,
    pub to: i64,
}

/// Reads each stretch to its end. Records behind it may be handed over too: for states and grants
/// newer is as good.
pub(crate) fn read_stretches(
    reader: &mut Reader,
    stretches: &[Stretch<'_>],
    mut each: impl FnMut(&Record<'_>),
) -> Result<(), BusError> {
    let mut open: FxHashMap<(&str, i32), i64> = FxHashMap::default();
    let mut assignment = Vec::new();
    for stretch in stretches.iter().filter(|stretch| stretch.from < stretch.to) {
        let partition = i32::from(stretch.lane);
        open.insert((stretch.topic, partition), stretch.to);
        assignment.push((stretch.topic, partition, Position::Offset(stretch.from)));
    }
    if assignment.is_empty() {
        return Ok(());
    }
    reader.assign(&assignment)?;
    let mut deadline = Instant::now() + PATIENCE;
    while !open.is_empty() {
        let mut ended: Vec<(String, i32)> = Vec::new();
        let handed = reader.poll(10_000, Duration::from_millis(200), |polled| {
            let (topic, partition, next) = match &polled {
                Polled::Record(record) => {
                    each(record);
                    (record.topic, record.partition, record.offset + 1)
                }
                Polled::Eof {
                    topic,
                    partition,
                    next_offset,
                } => (*topic, *partition, *next_offset),
            };
            if open.get(&(topic, partition)).is_some_and(|to| next >= *to) {
                ended.push((topic.to_owned(), partition));
            }
        })?;
        if !ended.is_empty() {
            open.retain(|(topic, partition), _| {
                !ended.iter().any(|(t, p)| t == topic && p == partition)
            });
        }
        if handed > 0 {
            deadline = Instant::now() + PATIENCE;
        } else if Instant::now() >= deadline {
            return Err(BusError::Timeout {
                operation: "read to the end",
                waited: PATIENCE,
            });
        }
    }
    Ok(())
}
