use super::*;

const PAPER: Architecture = Architecture {
    networks: Networks::one(Network::UNet),
    channels: 1,
    classes: 4,
    base_channels: 64,
    slices: 1,
    deep_supervision: false,
};

#[test]
fn the_papers_network_has_31_030_788_parameters() {
    assert_eq!(parameter_count(&PAPER), 31_030_788);
}

/// PERFORMANCE: 6.013 GFLOP a patch.
#[test]
fn the_papers_network_costs_six_gigaflop_a_tile() {
    let net = Net::drawn(PAPER, &Rng::new(1), &Device::Cpu).unwrap();
    let tile = Tensor::zeros((1, 64, 64, 1), DType::F32, &Device::Cpu).unwrap();
    assert!((net.flop(&tile).unwrap() / 1e9 - 6.013).abs() < 0.001);
}

/// Counted by hand: 27 (1 b + b b + b 2b) + 27 x 14 x 4 b b of cubes, with b = 32.
#[test]
fn the_other_networks_have_the_weights_of_their_tables() {
    let of = |network| -> Vec<Parameter> {
        let shape = Architecture {
            networks: Networks::one(network),
            ..PAPER
        };
        let weights = parameters(&shape).into_iter().filter(|p| p.role == Role::Conv);
        weights.collect()
    };
    let cubes = of(Network::VoxResNet);
    let cubes = cubes.iter().filter(|p| p.window == [3; 3]).map(Parameter::len);
    assert_eq!(cubes.sum::<usize>(), 27 * (32 + 3 * 32 * 32 + 14 * 4 * 32 * 32));
    let large: Vec<Vec<usize>> = of(Network::MultiScale)
        .iter()
        .filter(|p| p.name.starts_with("large"))
        .map(Parameter::shape)
        .collect();
    assert_eq!(
        large,
        [[9, 9, 1, 24], [7, 7, 24, 32], [5, 5, 32, 48], [4, 4, 48, 256]]
    );
}

#[test]
fn any_channels_classes_and_multiples_of_16_will_do() {
    let shape = Architecture {
        networks: Networks::one(Network::UNet),
        channels: 3,
        classes: 2,
        base_channels: 2,
        slices: 1,
        deep_supervision: false,
    };
    let net = Net::drawn(shape, &Rng::new(1), &Device::Cpu).unwrap();
    let images = Tensor::zeros((1, 16, 48, 3), DType::F32, &Device::Cpu).unwrap();
    assert_eq!(net.forward(&images).unwrap()[0].dims(), [1, 16, 48, 2]);
    let odd = Tensor::zeros((1, 24, 48, 3), DType::F32, &Device::Cpu).unwrap();
    let error = net.forward(&odd).unwrap_err().to_string();
    assert!(error.contains("48 x 24 cannot be halved 4 times"), "{error}");
}

/// 64 to 64 channels: weights by Keras within sqrt(6 / (9 x 64 + 9 x 64)) = 0.0722, biases by PyTorch within
/// 1 / sqrt(9 x 64) = 0.0417; of an up-convolution of 128 to 64 within 1 / sqrt(4 x 64) = 0.0625.
#[test]
fn weights_are_drawn_by_glorots_rule_and_biases_by_what_an_output_is_summed_from() {
    let list = parameters(&PAPER);
    let named = |name: &str| list.iter().find(|p| p.name == name).unwrap();
    for (name, least, limit) in [
        ("down.0.1.weight", 0.0720, 0.072_17),
        ("down.0.1.bias", 0.038, 0.041_67),
        ("up.3.0.bias", 0.058, 0.0625),
    ] {
        let values = named(name).drawn(&Rng::new(1));
        let largest = values.iter().fold(0f32, |m, v| m.max(v.abs()));
        assert!((least..limit).contains(&largest), "{name}: {largest}");
    }
    let stacked = Architecture {
        networks: Networks::one(Network::VoxResNet),
        ..PAPER
    };
    let list = parameters(&stacked);
    let norm = |name: &str| {
        let is_norm = |p: &&Parameter| p.name.starts_with("first.1.") && p.name.ends_with(name);
        list.iter().find(is_norm).unwrap().drawn(&Rng::new(1))
    };
    assert!(norm("weight").iter().all(|scale| *scale == 1.0));
    assert!(norm("bias").iter().all(|bias| *bias == 0.0));
    let second = named("down.0.1.weight");
    let values = second.drawn(&Rng::new(1));
    assert_eq!(values, second.drawn(&Rng::new(1)));
    assert_ne!(values, second.drawn(&Rng::new(2)));
}

/// Small ones in double precision, weights away from 0 so that ReLUs and poolings do not stand on an edge.
fn small(networks: Networks) -> (Net, Tensor) {
    let shape = Architecture {
        networks,
        channels: 2,
        classes: 3,
        base_channels: 4,
        slices: 3,
        deep_supervision: true,
    };
    let rng = Rng::new(7);
    let weights = parameters(&shape).into_iter().map(|parameter| {
        let mut own = rng.fork(&format!("{} moved", parameter.name));
        let values = parameter
            .drawn(&rng)
            .into_iter()
            .map(|v| f64::from(v) + 0.1 * own.normal());
        let values: Vec<f64> = values.collect();
        let tensor = Tensor::from_vec(values, parameter.shape(), &Device::Cpu).unwrap();
        (parameter.name, tensor)
    });
    let net = Net::new(shape, weights.collect()).unwrap();
    let field = net.field();
    let edge = 16 + 2 * field.context;
    let dims = [field.depth, edge, edge, field.channels()];
    let mut rng = Rng::new(8);
    let values: Vec<f64> = (0..dims.iter().product()).map(|_| rng.normal()).collect();
    (net, Tensor::from_vec(values, &dims, &Device::Cpu).unwrap())
}

/// Every output of every head weighs differently in a sum; its slope by some weights of each layer is the gradient.
#[test]
fn every_network_has_the_gradients_of_its_slopes() {
    let each = [Network::UNet, Network::VoxResNet, Network::MultiScale].map(Networks::one);
    let all = Networks::try_from(vec![Network::VoxResNet, Network::UNet, Network::UNet]).unwrap();
    for networks in each.into_iter().chain([all]) {
        let (net, images) = small(networks);
        let traced = |net: &Net| {
            let (outputs, trace) = net.forward_traced(&[&images]).unwrap();
            let auxiliary = outputs.auxiliary.into_iter().map(|(_, logits)| logits);
            let all: Vec<Tensor> = outputs.members.into_iter().chain(auxiliary).collect();
            (all, trace)
        };
        let weigh = |outputs: &[Tensor]| -> Vec<Tensor> {
            let weights = |(n, output): (usize, &Tensor)| {
                let count = output.elem_count();
                let values: Vec<f64> = (0..count)
                    .map(|i| (((i + 31 * n) * 7919 % 101) as f64 - 50.0) / 50.0)
                    .collect();
                Tensor::from_vec(values, output.dims(), &Device::Cpu).unwrap()
            };
            outputs.iter().enumerate().map(weights).collect()
        };
        let (outputs, trace) = traced(&net);
        let gradients = net.gradients(trace, weigh(&outputs)).unwrap();
        let sum = |net: &Net| -> f64 {
            let (outputs, _) = traced(net);
            let products = outputs.iter().zip(weigh(&outputs)).map(|(output, weight)| {
                (output * weight)
                    .unwrap()
                    .sum_all()
                    .unwrap()
                    .to_scalar::<f64>()
                    .unwrap()
            });
            products.sum()
        };
        // Of a committee some: each member's layers are known from before.
        let some = if networks.is_committee() { 7 } else { 1 };
        for parameter in parameters(&net.shape()).into_iter().step_by(some) {
            let gradient: Vec<f64> = gradients[&parameter.name]
                .flatten_all()
                .unwrap()
                .to_vec1()
                .unwrap();
            // A bias before a normalisation has none; the slope rounding gives it is 1e-7.
            let scale = gradient.iter().fold(1e-2f64, |m, g| m.max(g.abs()));
            let weights: Vec<f64> = net.weights.0[&parameter.name]
                .flatten_all()
                .unwrap()
                .to_vec1()
                .unwrap();
            let at = weights.len() / 2;
            let moved = |step: f64| {
                let mut net = net.clone();
                let mut weights = weights.clone();
                weights[at] += step;
                let tensor = Tensor::from_vec(weights, parameter.shape(), &Device::Cpu).unwrap();
                net.weights.0.insert(parameter.name.clone(), tensor);
                sum(&net)
            };
            let slope = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            assert!(
                (slope - gradient[at]).abs() <= 2e-4 * scale,
                "{networks}, {} {at}: the slope is {slope}, the gradient {}",
                parameter.name,
                gradient[at]
            );
        }
    }
}

/// And what it says of a slice depends on the slices beside that.
#[test]
fn voxresnet_answers_with_the_sum_of_its_heads() {
    let (net, images) = small(Networks::one(Network::VoxResNet));
    let (outputs, _) = net.forward_traced(&[&images]).unwrap();
    let (sum, heads) = (&outputs.members[0], &outputs.auxiliary);
    assert_eq!((outputs.members.len(), heads.len()), (1, 4));
    let of_heads = heads[1..]
        .iter()
        .fold(heads[0].1.clone(), |sum, (_, head)| (sum + head).unwrap());
    let off = |a: &Tensor, b: &Tensor| -> f64 {
        let off = (a - b).unwrap().abs().unwrap().max_all().unwrap();
        off.to_scalar().unwrap()
    };
    assert!(off(sum, &of_heads) < 1e-12);
    assert_eq!(sum.dims(), [16, 16, 16, 3]);
    // What it says of a slice depends on the slices beside it.
    let other = images.narrow(0, 0, 8).unwrap();
    let other = Tensor::cat(&[&other, &other], 0).unwrap();
    let said = &net.forward(&other).unwrap()[0];
    assert!(off(&said.get(0).unwrap(), &sum.get(0).unwrap()) > 1e-6);
}

/// Beside one that wants context and one that wants slices, each member says what it says by itself.
#[test]
fn a_committees_members_see_what_they_would_see_alone() {
    let all = Networks::try_from(vec![Network::UNet, Network::MultiScale, Network::VoxResNet]).unwrap();
    let (net, images) = small(all);
    let said = net.forward(&images).unwrap();
    for (n, network) in all.members().enumerate() {
        let shape = Architecture {
            networks: Networks::one(network),
            ..net.shape()
        };
        let own = |parameter: Parameter| {
            let weight = net.weights.0[&format!("{}{}", prefix(n), parameter.name)].clone();
            (parameter.name, weight)
        };
        let alone = Net::new(shape, parameters(&shape).into_iter().map(own).collect()).unwrap();
        let around = net.field().context - alone.field().context;
        let edge = 16 + 2 * alone.field().context;
        let cut = images
            .narrow(1, around, edge)
            .unwrap()
            .narrow(2, around, edge)
            .unwrap();
        let expected = &alone.forward(&cut.contiguous().unwrap()).unwrap()[0];
        let off = (&said[n] - expected).unwrap().abs().unwrap().max_all().unwrap();
        assert!(off.to_scalar::<f64>().unwrap() < 1e-12, "{network:?}");
    }
}

/// One channel of one patch, as it is defined.
type Planes = Vec<Vec<Vec<f64>>>;

fn convolved(x: &Planes, weight: &Tensor, bias: &Tensor) -> Planes {
    let (k, _, inputs, outputs) = weight.dims4().unwrap();
    let w: Vec<f64> = weight.flatten_all().unwrap().to_vec1().unwrap();
    let b: Vec<f64> = bias.to_vec1().unwrap();
    let edge = x[0].len() - k + 1;
    let at = |o: usize, row: usize, column: usize| {
        let mut sum = b[o];
        for (y, x_at, i) in (0..k * k * inputs).map(|n| (n / inputs / k, n / inputs % k, n % inputs)) {
            sum += x[i][row + y][column + x_at] * w[((y * k + x_at) * inputs + i) * outputs + o];
        }
        sum.max(0.0)
    };
    let plane = |o| {
        (0..edge)
            .map(|row| (0..edge).map(|column| at(o, row, column)).collect())
            .collect()
    };
    (0..outputs).map(plane).collect()
}

fn halved(x: &Planes) -> Planes {
    let edge = x[0].len();
    assert_eq!(edge % 2, 0, "a halving of {edge} leaves nothing over");
    let largest = |plane: &Vec<Vec<f64>>, row: usize, column: usize| {
        let corners = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(y, x)| plane[2 * row + y][2 * column + x]);
        corners.into_iter().fold(f64::MIN, f64::max)
    };
    let plane = |plane: &Vec<Vec<f64>>| {
        let row = |row| (0..edge / 2).map(|column| largest(plane, row, column)).collect();
        (0..edge / 2).map(row).collect()
    };
    x.iter().map(plane).collect()
}

/// Patch by patch, with poolings that halve.
#[test]
fn the_multi_scale_network_says_of_every_pixel_what_it_says_patch_by_patch() {
    let (net, images) = small(Networks::one(Network::MultiScale));
    let said: Vec<f64> = net.forward(&images).unwrap()[0]
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap();
    let context = multi_scale::CONTEXT;
    let values = images.get(0).unwrap().to_vec3::<f64>().unwrap();
    for (row, column) in (0..9).map(|n| (n / 3, n % 3)) {
        let mut all = Vec::new();
        for (name, kernels, patch, full) in multi_scale::BRANCHES {
            let (top, left) = (row + context - patch / 2, column + context - patch / 2);
            let mut x: Planes = (0..6)
                .map(|c| {
                    let line = |y: usize| (0..patch).map(|x| values[top + y][left + x][c]).collect();
                    (0..patch).map(line).collect()
                })
                .collect();
            let of = |n: usize, part: &str| net.weights.of(&format!("{name}.{n}"), part);
            for n in 0..kernels.len() {
                x = halved(&convolved(&x, of(n, "weight"), of(n, "bias")));
            }
            assert_eq!(x[0].len(), full, "{name}");
            let x = convolved(&x, of(3, "weight"), of(3, "bias"));
            all.extend(x.into_iter().map(|plane| plane[0][0]));
        }
        let head: Vec<f64> = net
            .weights
            .of("head", "weight")
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        let bias: Vec<f64> = net.weights.of("head", "bias").to_vec1().unwrap();
        for class in 0..3 {
            let sum: f64 = all.iter().enumerate().map(|(n, v)| v * head[n * 3 + class]).sum();
            let dense = said[(row * 16 + column) * 3 + class];
            assert!(
                (dense - sum - bias[class]).abs() < 1e-9,
                "({row}, {column}), {class}"
            );
        }
    }
}
