//! The latest writes of a server, which it can lose.

use super::{
    commands::{self, Protocol},
    replies::Bytes,
    store::ModelStore,
};
use std::collections::VecDeque;

/// The maximum number of transactions that can be lost.
const TRANSACTIONS_MAX: usize = 1_024;

/// An older copy of the data, and the writes that it lacks.
#[derive(Clone, Debug)]
pub(super) struct CommandHistory {
    behind: ModelStore,
    transactions: VecDeque<Transaction>,
}

/// The changes of one command or script.
#[derive(Clone, Debug)]
struct Transaction {
    now_us: u64,
    commands: Vec<Vec<Bytes>>,
}

impl CommandHistory {
    pub(super) fn new(store: &ModelStore) -> Self {
        Self { behind: store.clone(), transactions: VecDeque::new() }
    }

    /// Records the changes of a transaction.
    pub(super) fn add(&mut self, now_us: u64, commands: Vec<Vec<Bytes>>) {
        self.transactions.push_back(Transaction { now_us, commands });
        if TRANSACTIONS_MAX < self.transactions.len() {
            self.apply_oldest();
        }
    }

    fn apply_oldest(&mut self) {
        let Some(transaction) = self.transactions.pop_front() else { return };
        self.behind.now_us = transaction.now_us;
        for command in transaction.commands {
            let spec = commands::find(&command[0]).expect("the command was executed before");
            spec.run(&mut self.behind, &command, Protocol::Resp2)
                .expect("the command succeeded before");
        }
        self.behind.effects.clear();
    }

    /// The data without the last `lost` transactions, or without all recorded ones if there are
    /// fewer.
    pub(super) fn without(mut self, lost: usize) -> ModelStore {
        while lost < self.transactions.len() {
            self.apply_oldest();
        }
        self.behind
    }
}
