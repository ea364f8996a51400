//! What `bus.ledger` says: how far the shard's log is committed.

use mz_bus::admin::{TopicId, topic_id};
use mz_bus::{Isolation, Reader, Stretch, TxProducer, read_stretches};
use mz_journal::{LedgerState, Record as _, topics};

use crate::error::LedgerError;
use crate::limits::STATE_LOOK_BACK;
use crate::options::Options;

/// The shard's last commit. Call after the predecessor was shut out: what it committed is all that there
/// will be of it.
pub(crate) fn read(options: &Options) -> Result<Option<LedgerState>, LedgerError> {
    let mut reader = Reader::open(&options.bus, Isolation::Committed)?;
    let heads = Reader::open(&options.bus, Isolation::Uncommitted)?;
    let partition = options.shard;
    let (low, high) = heads.watermarks(topics::LEDGER, i32::from(partition))?;
    let wanted = topics::ledger_key(options.shard);
    // First what is recent, then all.
    for look_back in [STATE_LOOK_BACK, i64::MAX] {
        let stretch = Stretch {
            topic: topics::LEDGER,
            lane: partition,
            from: high.saturating_sub(look_back).max(low),
            to: high,
        };
        let mut found = None;
        read_stretches(&mut reader, &[stretch], |record| {
            if let (Some(key), Some(value)) = (record.key, record.value)
                && key == wanted
            {
                found = Some((record.offset, LedgerState::decode(value)));
            }
        })?;
        if let Some((offset, state)) = found {
            return state.map(Some).map_err(|source| LedgerError::State {
                partition,
                offset,
                source,
            });
        }
    }
    Ok(None)
}

/// What `bus.audit` is now.
///
/// # Errors
/// It is another topic than the committed positions are of.
pub(crate) fn topic(
    options: &Options,
    state: Option<&LedgerState>,
) -> Result<TopicId, LedgerError> {
    let found = topic_id(&options.bus, topics::AUDIT)?;
    let known = state.map(|state| state.topic);
    let known = known.filter(|known| *known != TopicId::default());
    match known {
        Some(known) if known != found => Err(LedgerError::TopicReplaced),
        _ => Ok(found),
    }
}

/// Commits a state. After an error nobody knows whether it was committed: start over from [`read()`].
pub(crate) fn write(producer: &mut TxProducer, state: &LedgerState) -> Result<(), LedgerError> {
    producer.begin()?;
    let sent = producer.send(
        topics::LEDGER,
        i32::from(state.shard),
        &topics::ledger_key(state.shard),
        Some(&state.encode()),
        &[],
    );
    let done = sent.and_then(|()| producer.commit());
    if let Err(error) = done {
        // Whatever comes of it: the next start ends what is left.
        let _ = producer.abort();
        return Err(error.into());
    }
    Ok(())
}
