//! What is found out for a status beyond what the facts say, each where somebody looked. Pure.

use super::{DamagedView, Status};
use crate::rotation::damaged::Damaged;
use crate::rotation::recovery::Recovery;
use crate::rotation::stage::Stage;
use crate::sweep::{Survey, Uncovered};

impl Status {
    /// The same, where the record of the rotation is `damaged`, and so much else stands in the way.
    #[must_use]
    pub fn with_damage(mut self, damaged: Option<&Damaged>, blocked: Vec<String>) -> Self {
        self.blocked.splice(..0, blocked);
        if let Some(damaged) = damaged {
            self.stage = None;
            self.damaged = Some(DamagedView {
                why: damaged.why.clone(),
                schema: damaged.schema,
                is_newer: damaged.is_newer(),
                since_revision: damaged.revision,
            });
            self.next = damaged.next();
        }
        self
    }

    /// The same, with what was found where no table has a resource.
    #[must_use]
    pub fn with_survey(self, survey: Survey) -> Self {
        Self { survey, ..self }
    }

    /// The same, with what was found that no rule covers.
    #[must_use]
    pub fn with_uncovered(mut self, uncovered: Option<Uncovered>) -> Self {
        if let Some(found) = uncovered.as_ref().and_then(Uncovered::in_the_way) {
            self.blocked.push(format!(
                "no key that these need is removed: {found}. {}",
                found.way_on()
            ));
        }
        self.uncovered = uncovered;
        self
    }

    /// The same, with what no key of the configuration opens.
    #[must_use]
    pub fn with_recovery(mut self, recovery: Option<&Recovery>) -> Self {
        if let Some(recovery) = recovery {
            self.unopenable = recovery.rows().to_vec();
            self.recoverable = recovery.found();
            if recovery.is_of_use() && self.stage.is_some_and(Stage::is_rest) && self.underway.is_none() {
                "`recover`: a kept file has keys for values that do not open".clone_into(&mut self.next);
            }
        }
        self
    }
}
