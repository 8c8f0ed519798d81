# The miniature's own data and networks, made here instead of downloaded.


if CONFIG.miniature:

    rule draw_digits:
        output:
            train=directory(f"{RESULTS}/datasets/train"),
            test=[directory(path) for path in drawn_sets()],
        log:
            RUN.log("draw_digits"),
        benchmark:
            RUN.benchmark("draw_digits")
        localrule: True
        conda:
            "../environment.yaml"
        params:
            version=DRAWING_VERSION,
            folder=lambda w, output: os.path.dirname(output.train),
        message:
            "Draw the digits"
        shell:
            "python workflow_scripts/draw_digits.py --output {params.folder:q} > {log:q} 2>&1"

    rule train_network:
        input:
            images=f"{RESULTS}/datasets/train",
            encoder=encoder_of,
        output:
            f"{RESULTS}/checkpoints/{{checkpoint}}.{{suffix}}",
        log:
            RUN.log("train_network", "{checkpoint}.{suffix}"),
        benchmark:
            RUN.benchmark("train_network", "{checkpoint}.{suffix}")
        wildcard_constraints:
            suffix="pt|safetensors",
        # The tokenizers first: everything else waits for them.
        priority: FIRST + 10
        localrule: True
        conda:
            "../environment.yaml"
        threads: 1
        params:
            sections=lambda w: trained_text(w.checkpoint),
            training=lambda w: CONFIG.miniature.training[w.checkpoint].text_of(Training),
            seed=CONFIG.miniature.seed,
        message:
            "Train {wildcards.checkpoint}"
        shell:
            "python workflow_scripts/train_network.py --sections {params.sections:q}"
            " --training {params.training:q} --seed {params.seed}"
            " --images {input.images:q} --encoder-checkpoint {input.encoder:q} --threads {threads}"
            " --output {output:q} > {log:q} 2>&1"
