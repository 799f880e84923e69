//! Steps of training one after another, without a run around them: to find out how long they take.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use rand_core::Rng;
use ravel_core::{Layout, Seed};
use ravel_heads::HeadConfig;
use ravel_pipeline::{BackbonePart, Definition, PipelineError};

use crate::language::LanguageModel;
use crate::learner::{Learned, Learner};
use crate::run::{StepWork, Task, open_task};
use crate::{
    LanguageConfig, OptimizerConfig, OutputConfig, Products, Recipe, TaskConfig, TrainError,
};

/// Steps in all of a model that learns from ids at random: what learning rates follow.
const STEPS: usize = 1_000;

/// Steps of a recipe, or of a language model of some sizes.
pub struct Steps {
    learns: Learns,
    /// Trained numbers.
    pub parameters: usize,
    /// What a step works through, where that is known.
    pub work: Option<StepWork>,
    /// Rows of a step: pictures, clips, stretches of text or sound.
    pub rows: usize,
    products: Products,
}

enum Learns {
    Task(Box<dyn Task>),
    Random(Box<RandomIds>),
}

/// A language model that learns ids drawn at random.
struct RandomIds {
    learner: Learner<LanguageModel>,
    ids: u64,
    rows: usize,
    context: usize,
    seed: Seed,
    device: Device,
}

impl Steps {
    /// Those of a recipe, on its own data.
    ///
    /// # Errors
    /// [`TrainError`] if the data cannot be read or a part does not fit.
    pub fn of_recipe(recipe: &Recipe, device: &Device) -> Result<Self, TrainError> {
        let (task, parameters) = open_task(recipe, device)?;
        Ok(Self {
            work: task.work(),
            learns: Learns::Task(task),
            parameters,
            rows: recipe.batch,
            products: recipe.products,
        })
    }

    /// Those of the sequence model and head of a text-generation definition, from random weights, on `rows` stretches of `context` ids
    /// drawn at random.
    ///
    /// # Errors
    /// [`TrainError::Pipeline`] if a part is missing, [`TrainError::Part`] if a size is impossible.
    pub fn of_language(
        definition: &Definition,
        [rows, context]: [usize; 2],
        seed: u64,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let lacks = |part| PipelineError::Lacks {
            name: definition.name.clone(),
            task: definition.task.name().into(),
            part,
        };
        let Some(BackbonePart::Transformer { config }) = &definition.backbone else {
            return Err(lacks("backbone").into());
        };
        let Some(HeadConfig::NextToken(head)) = &definition.head else {
            return Err(lacks("head of kind \"next-token\"").into());
        };
        config.validate()?;
        head.validate()?;
        let seed = Seed::new(seed);
        device.seed(seed.named("first weights").number());
        let layout = Layout::Sequence { len: context };
        let model = LanguageModel {
            backbone: config.init(device),
            // Places of a layout with rows and columns are of no use to a sequence: the head is told of one axis.
            head: head.init(config.d_model, config.axes().min(1), &layout, device),
        };
        model.tensors(); // Draws every parameter now, in the module's order.
        let recipe = recipe(definition, config.clone(), [rows, context]);
        Ok(Self {
            parameters: model.num_params(),
            work: Some(model.work(rows, context)),
            rows,
            products: recipe.products,
            learns: Learns::Random(Box::new(RandomIds {
                ids: head.codebook_size as u64,
                learner: Learner::new(model, &recipe, device),
                rows,
                context,
                seed,
                device: device.clone(),
            })),
        })
    }

    /// One update. What it gives are its losses and other measures.
    ///
    /// # Errors
    /// [`TrainError::NotFinite`] if a loss or gradient is not a number.
    pub fn step(&mut self, step: usize) -> Result<BTreeMap<String, f64>, TrainError> {
        let learns = &mut self.learns;
        self.products.within(|| match learns {
            Learns::Task(task) => task.step(step),
            Learns::Random(random) => random.step(step),
        })
    }
}

impl RandomIds {
    fn step(&mut self, step: usize) -> Result<BTreeMap<String, f64>, TrainError> {
        self.learner.begin(step);
        let shape = [self.rows, self.context + 1];
        let mut random = self.seed.named("ids").indexed(step as u64).stream();
        let drawn = (0..shape[0] * shape[1]).map(|_| (random.next_u64() % self.ids) as i32);
        let drawn = TensorData::new::<i32, _>(drawn.collect(), shape);
        let training = self.device.clone().autodiff();
        let ids = Tensor::<2, Int>::from_data(drawn, &training);
        let loss = self.learner.model.loss(ids);
        self.learner.update(loss, step, "the language model's loss")
    }
}

/// What a learner wants to know of its recipe.
fn recipe(
    definition: &Definition,
    backbone: ravel_backbone::TransformerConfig,
    [rows, context]: [usize; 2],
) -> Recipe {
    Recipe {
        name: definition.name.clone(),
        description: String::new(),
        licence: String::new(),
        seed: 1,
        steps: STEPS,
        batch: rows,
        products: Products::default(),
        data: None,
        task: TaskConfig::Text(LanguageConfig {
            train: Vec::new(),
            held_out: Vec::new(),
            vocabulary_size: 0,
            context,
            validate_stretches: 1,
            backbone,
            tie: false,
            sampler: Default::default(),
        }),
        optimizer: OptimizerConfig::default(),
        output: OutputConfig::default(),
    }
}
