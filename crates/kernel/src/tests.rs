mod budgets;
mod consents;
mod decisions;
mod fixture;
mod orders;
mod recovery;
