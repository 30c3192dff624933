use std::path::Path;

use super::file::PRESETS;
use super::*;

fn presets() -> impl Iterator<Item = Theme> {
    PRESETS.iter().map(|(name, _)| Theme::preset(name).unwrap())
}

/// Contrast of two colours, 1 to 21; source: WCAG 2.1.
fn contrast(a: [u8; 3], b: [u8; 3]) -> f64 {
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

#[test]
fn contrast_is_what_the_standard_says() {
    assert_eq!(contrast([0; 3], [255; 3]), 21.0);
    assert!(
        (contrast([119; 3], [255; 3]) - 4.478).abs() < 1e-3,
        "#777777 on white, just short of AA"
    );
}

/// Every style on every ground that it may come to lie on, in as many colours as there are.
#[test]
fn everything_can_be_read_in_every_theme() {
    for theme in presets().filter(|theme| theme.name != "mono") {
        let least = if theme.name == "high-contrast" { 7.0 } else { 4.5 };
        let text = theme.style(Part::Text);
        let grounds = match theme.is_light() {
            true => [[255; 3], [240; 3]],
            false => [[0; 3], [40; 3]],
        };
        for depth in [Depth::True, Depth::Ansi256, Depth::Ansi16] {
            let shown = |colour: Color| Depth::shown(depth.of(colour)).expect("a colour of its own");
            for (word, part) in Part::ALL {
                let style = theme.style(part);
                let fg = shown(style.fg.or(text.fg).unwrap());
                let painted = shown(style.bg.or(text.bg).unwrap());
                // A ground of its own hides the terminal's, and so does one that is painted.
                let others = grounds
                    .into_iter()
                    .filter(|_| style.bg.is_none() && depth != Depth::Ansi16);
                for ground in others.chain([painted]) {
                    let contrast = contrast(fg, ground);
                    // On a ground that is no longer black, the highest contrast cannot be asked for.
                    let least = if ground == [40; 3] { 4.5 } else { least };
                    assert!(
                        contrast >= least,
                        "{}: {word} has a contrast of {contrast:.1} on {ground:?} in {depth:?}",
                        theme.name
                    );
                }
            }
        }
    }
}

/// CIE L*a*b* of an sRGB colour under D65.
fn lab(linear: [f64; 3]) -> [f64; 3] {
    const XYZ: [[f64; 3]; 3] = [
        [0.4124, 0.3576, 0.1805],
        [0.2126, 0.7152, 0.0722],
        [0.0193, 0.1192, 0.9505],
    ];
    const WHITE: [f64; 3] = [0.9505, 1.0, 1.089];
    let f = |t: f64| {
        if t > 0.008856 {
            t.cbrt()
        } else {
            7.787 * t + 16.0 / 116.0
        }
    };
    let [x, y, z]: [f64; 3] =
        std::array::from_fn(|i| f((0..3).map(|j| XYZ[i][j] * linear[j]).sum::<f64>() / WHITE[i]));
    [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
}

/// How far apart two colours are (CIE 1976) to an eye that sees by `matrix`.
fn difference(a: [u8; 3], b: [u8; 3], matrix: [[f64; 3]; 3]) -> f64 {
    let [a, b] = [a, b].map(|rgb| {
        let linear = rgb.map(|v| {
            let v = f64::from(v) / 255.0;
            if v <= 0.04045 {
                v / 12.92
            } else {
                ((v + 0.055) / 1.055).powf(2.4)
            }
        });
        lab(std::array::from_fn(|i| {
            (0..3)
                .map(|j| matrix[i][j] * linear[j])
                .sum::<f64>()
                .clamp(0.0, 1.0)
        }))
    });
    (0..3).map(|i| (a[i] - b[i]).powi(2)).sum::<f64>().sqrt()
}

const NORMAL: [[f64; 3]; 3] = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];

/// Protanopia, deuteranopia and tritanopia; source: Machado, Oliveira & Fernandes, IEEE TVCG 2009, severity 1.
const BLIND: [[[f64; 3]; 3]; 3] = [
    [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
];

/// Colours that are seen together, by what they stand for.
fn together(theme: &Theme) -> [Vec<[u8; 3]>; 2] {
    let palette = theme.palette(&Labels::default());
    let classes = palette.classes.iter().copied().chain([palette.unsure]).collect();
    [
        vec![palette.common, palette.predicted, palette.corrected],
        classes,
    ]
}

#[test]
fn colours_that_are_seen_together_are_told_apart() {
    for theme in presets().filter(|theme| theme.name != "mono") {
        let eyes: &[_] = match theme.name.as_str() {
            "colour-blind" => &BLIND,
            _ => &[],
        };
        for eye in eyes.iter().chain([&NORMAL]) {
            for seen in together(&theme) {
                for (n, a) in seen.iter().enumerate() {
                    for b in &seen[..n] {
                        let apart = difference(*a, *b, *eye);
                        assert!(
                            apart > 20.0,
                            "{}: {a:?} and {b:?} are {apart:.0} apart",
                            theme.name
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_theme_of_ones_own_starts_from_another_and_changes_what_it_says() {
    let text = "base = \"light\"\n[styles]\ntitle = \"#112233 on yellow underlined\"\n[picture]\nclasses = [\"#010203\"]\n\
                common = \"red\"\n";
    let own = Theme::parse(text, "theme.toml").unwrap();
    let light = Theme::preset("light").unwrap();
    let title = Style::new()
        .fg(Color::Rgb(0x11, 0x22, 0x33))
        .bg(Color::Yellow)
        .add_modifier(Modifier::UNDERLINED);
    assert_eq!(
        (own.title(), own.warn(), own.name()),
        (title, light.warn(), "own")
    );
    let palette = own.palette(&Labels::default());
    assert_eq!(palette.classes, [[1, 2, 3]; 3], "one colour goes round");
    assert_eq!(palette.common, [205, 0, 0]);
    assert_eq!(palette.predicted, light.picture.predicted);
}

#[test]
fn what_is_wrong_is_named_with_line_and_nearest_word() {
    let errors = |text: &str| {
        let faults = Theme::parse(text, "theme.toml").unwrap_err();
        faults.0.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        errors(
            "[styles]\ntitel = \"red\"\ndim = \"grey\"\nwarn = 3\ngood = \"red on\"\n[picture]\ncommon = \"#12345\"\n"
        ),
        [
            "theme.toml:2: [styles] titel: there is no such line; did you mean \"title\"?",
            "theme.toml:3: [styles] dim: \"grey\" is neither a colour nor a style; did you mean \"gray\"?",
            "theme.toml:4: [styles] warn: write the style as a text, like \"cyan bold\"",
            "theme.toml:5: [styles] good: \"red on\": a colour has to follow \"on\"",
            "theme.toml:7: [picture] common: \"#12345\" is neither a colour nor a style; there are black, red, green, \
             yellow, blue, magenta, cyan, gray, darkgray, lightred, lightgreen, lightyellow, lightblue, lightmagenta, \
             lightcyan, white, bold, dim, italic, underlined, reversed, on",
        ]
    );
    assert_eq!(
        errors("base = \"drak\"\n"),
        ["theme.toml:1: base: there is no theme \"drak\"; did you mean \"dark\"?"]
    );
    assert!(errors("[pictures]\ncommon = \"red\"\n")[0].contains("did you mean \"picture\"?"));
    assert!(errors("title = \"red\"\n")[0].contains("only base"));
    assert!(errors("[picture]\nhatching = \"yes\"\nclasses = \"red\"\n")[1].contains("a list of colours"));
    assert!(Theme::own(Path::new("/there/is/none")).unwrap().is_none());
}

#[test]
fn the_theme_goes_with_the_ground_unless_a_person_chose() {
    let name = |themes: &Themes, has_colour, ground| themes.theme(has_colour, ground).name;
    let auto = Themes::new("auto", None).unwrap();
    assert_eq!(name(&auto, true, None), "dark");
    assert_eq!(name(&auto, true, Some(true)), "light");
    assert_eq!(name(&auto, false, Some(true)), "mono");
    let chosen = Themes::new("high-contrast", None).unwrap();
    assert_eq!(name(&chosen, true, Some(true)), "high-contrast");
    let own = Theme::parse("[styles]\n", "theme.toml").unwrap();
    let mut auto = Themes::new("auto", Some(own)).unwrap();
    assert_eq!(name(&auto, true, Some(true)), "own");
    let mut seen = Vec::new();
    for _ in 0..7 {
        auto.choose_next();
        seen.push(auto.word());
    }
    assert_eq!(
        seen,
        [
            "dark",
            "light",
            "high-contrast",
            "colour-blind",
            "mono",
            "own",
            "auto"
        ]
    );
    assert!(Themes::new("own", None).is_err());
    let error = Themes::new("dakr", None).unwrap_err().to_string();
    assert!(error.contains("did you mean \"dark\"?"), "{error}");
}

#[test]
fn the_ground_is_painted_only_where_the_terminal_s_own_is_the_other_way() {
    let painted = |name: &str, ground| {
        let mut buffer = Buffer::empty(ratatui::layout::Rect::new(0, 0, 2, 1));
        buffer[(1, 0)].bg = Color::Red;
        Theme::preset(name).unwrap().paint(ground, &mut buffer);
        [buffer[(0, 0)].bg, buffer[(1, 0)].bg]
    };
    let white = Color::Rgb(255, 255, 255);
    assert_eq!(painted("light", Some(false)), [white, Color::Red]);
    assert_eq!(painted("light", None), [white, Color::Red], "most are dark");
    assert_eq!(painted("light", Some(true)), [Color::Reset, Color::Red]);
    assert_eq!(painted("dark", None), [Color::Reset, Color::Red]);
    assert_eq!(painted("dark", Some(true))[0], Color::Rgb(16, 16, 16));
}
