"""How the report looks: one style sheet, for light and dark, wide and narrow. Series take the colours of Okabe and Ito,
which people who see colours differently can tell apart."""

PLOT = """
.plot { --ink: #1d2330; --soft: #5d6675; --rule: #dfe3e8; --c0: #0072b2; --c1: #d55e00; --c2: #00805d; --c3: #a4508b;
  --c4: #8a6d00; --c5: #4d5868; font: 12px system-ui, sans-serif; }
@media (prefers-color-scheme: dark) { .plot { --ink: #e6e9ee; --soft: #a3acba; --rule: #343c4a; --c0: #56b4e9;
  --c1: #ff9248; --c2: #2fc79b; --c3: #e59ccb; --c4: #e8cf45; --c5: #b4bdca; } }
.plot .grid { stroke: var(--rule); } .plot text { fill: var(--ink); } .plot .tick { fill: var(--soft); }
.plot .axis { fill: var(--soft); font-size: 12.5px; } .plot .line { fill: none; stroke-width: 1.6; opacity: .6; }
.plot .label { font-size: 11.5px; } .plot .post { stroke: var(--soft); stroke-dasharray: 4 4; }
.mark { stroke-width: 1; }
.plot.sample { width: 16px; height: 16px; }
.mark .hollow { fill: none; stroke-width: 2; }

.series0 { fill: var(--c0); stroke: var(--c0); } .series1 { fill: var(--c1); stroke: var(--c1); }
.series2 { fill: var(--c2); stroke: var(--c2); } .series3 { fill: var(--c3); stroke: var(--c3); }
.series4 { fill: var(--c4); stroke: var(--c4); } .series5 { fill: var(--c5); stroke: var(--c5); }
.plot .mark text { stroke: none; }
"""

PAGE = """
:root { color-scheme: light dark; --paper: #fdfdfb; --panel: #f3f4f1; --ink: #1d2330; --soft: #5d6675;
  --rule: #dfe3e8;
  --c0: #0072b2; --c1: #d55e00; --c2: #00805d; --c3: #a4508b; --c4: #8a6d00; --c5: #4d5868; --worse: 213 94 0; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181f; --panel: #1d232d; --ink: #e6e9ee; --soft: #a3acba;
  --rule: #343c4a; --c0: #56b4e9; --c1: #ff9248; --c2: #2fc79b; --c3: #e59ccb; --c4: #e8cf45; --c5: #b4bdca;
  --worse: 255 146 72; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 2rem 1.2rem 5rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; overflow-wrap: break-word; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.01em; }
h2 { font-size: 1.35rem; margin: 3.2rem 0 .6rem; padding-top: .9rem; border-top: 2px solid var(--ink); }
h3 { font-size: 1.02rem; margin: 1.8rem 0 .4rem; }
p, ul { max-width: 44rem; } a { color: var(--c0); }
.kicker { color: var(--soft); font-size: .85rem; letter-spacing: .06em; text-transform: uppercase;
  margin: 0 0 .3rem; }
.lead { font-size: 1.12rem; } .warning { border-left: 4px solid var(--c1); padding-left: .8rem; }
 .soft, .note { color: var(--soft); } .note { font-size: .9rem; }
nav { display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; font-size: .92rem; margin: 1.2rem 0; }
nav a { text-decoration: none; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: .8rem; margin: 1.4rem 0; }
.figure { background: var(--panel); border-radius: .5rem; padding: .8rem 1rem; }
.figure b { display: block; font-size: 1.55rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.figure span { font-size: .88rem; color: var(--soft); display: block; }
.headline { grid-column: 1 / -1; border-left: 5px solid var(--c0); } .headline b { font-size: 2.1rem; }
.scroll { overflow-x: auto; margin: .8rem 0 1.2rem; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; min-width: 100%; }
th, td { text-align: right; padding: .32rem .6rem; border-bottom: 1px solid var(--rule); vertical-align: top; }
th { font-weight: 600; color: var(--soft); vertical-align: bottom; } th.left, td.left { text-align: left; }
td:not(.left) { white-space: nowrap; }
td.text { min-width: 12rem; } tr.own td { font-weight: 600; background: var(--panel); }
tbody th { font-weight: 500; color: var(--ink); text-align: left; }
small { color: var(--soft); font-weight: 400; white-space: nowrap; }
code, pre, .token { font: .86em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
pre { background: var(--panel); border-radius: .5rem; padding: .8rem 1rem;
  white-space: pre-wrap; overflow-wrap: anywhere; }
td code, dd code { overflow-wrap: anywhere; }
.missing { border-left: 4px solid var(--c4); background: var(--panel); padding: .2rem 1rem;
  border-radius: 0 .4rem .4rem 0;
  max-width: none; margin: 1rem 0; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; margin: .6rem 0 1.4rem; }
.story { background: var(--panel); border-radius: .5rem; padding: .8rem 1rem; white-space: pre-wrap;
  font-size: .95rem; }
.story h4 { margin: 0 0 .3rem; font-size: .82rem; color: var(--soft); font-weight: 600; }
.story .alike { text-decoration: underline; text-decoration-color: var(--c2); text-underline-offset: .2em; }
.bar { position: relative; display: block; height: 1.1rem; min-width: 9rem; }
.bar i, .bar u { position: absolute; background: var(--c1); } .bar i { top: .22rem; height: .66rem; opacity: .75; }
.bar u { top: .52rem; height: 2px; background: var(--ink); }
svg.plot { width: 100%; height: auto; } svg.plot.sample { width: 16px; } .narrow { display: none; }
.key { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .88rem; margin: .3rem 0 0; max-width: none; }
.series-name { display: inline-flex; align-items: center; gap: .3rem; }
figure { margin: 1rem 0 1.6rem; } figcaption { margin-top: .5rem; font-size: .9rem; color: var(--soft);
  max-width: 44rem; }
details { margin: .5rem 0; } summary { cursor: pointer; color: var(--c0); }
.sentence { font-size: 1.02rem; line-height: 2; }
.token { background: rgb(var(--worse) / var(--heat, 0)); border-radius: .2rem; padding: .1rem .12rem;
  white-space: pre-wrap;
  border-bottom: 1px dotted var(--rule); }
.chips { display: flex; flex-wrap: wrap; gap: 0 .7rem; line-height: 1.35; min-width: 8rem;
  } .chips .down { color: var(--c1); }
.chips .up { color: var(--c0); }
dl { display: grid; grid-template-columns: minmax(8rem, max-content) 1fr; gap: .25rem 1rem; font-size: .92rem; }
dt { color: var(--soft); } dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
@media (max-width: 44rem) { body { padding: 1.2rem .9rem 3rem; } h1 { font-size: 1.6rem; }
  .pair { grid-template-columns: 1fr; }
  .wide { display: none; } .narrow { display: block; } dl { grid-template-columns: 1fr; }
  dd { margin-bottom: .4rem; } }
@media print { body { max-width: none; } details { display: block; } }
"""
