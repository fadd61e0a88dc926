/*
 * The report's style and script. Literals, so that their digests in the page's content security
 * policy are of the same bytes. The script sorts and filters tables; without it nothing is missing.
 */
#ifndef DAGWARD_PROXY_AUDIT_HTML_ASSETS_H
#define DAGWARD_PROXY_AUDIT_HTML_ASSETS_H

/* clang-format off */
#define STYLE "\n" \
":root{color-scheme:light dark;--bg:#fbfaf7;--card:#fff;--ink:#1d2329;--soft:#59636e;--line:#dfdcd4;" \
"--allow:#1f7a8c;--deny:#b3261e;--fail:#9a6700;--accent:#22577a;--code:#f1efe8;--good:#1a7f4b}\n" \
"@media (prefers-color-scheme:dark){:root{--bg:#14181c;--card:#1b2127;--ink:#e6e9ec;--soft:#9aa6b2;" \
"--line:#2f3840;--allow:#56b6c6;--deny:#ff8a80;--fail:#e3b341;--accent:#8cc4e8;--code:#242c33;--good:#5fd39a}}\n" \
"*{box-sizing:border-box}[hidden]{display:none!important}\n" \
"html{-webkit-text-size-adjust:100%;scroll-behavior:smooth}\n" \
"body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.5 system-ui,-apple-system,\"Segoe UI\",Roboto,\"Helvetica Neue\",\"DejaVu Sans\",sans-serif}\n" \
"a{color:var(--accent)}\n" \
".skip{position:absolute;left:-99rem}.skip:focus{left:1rem;top:.5rem;background:var(--card);padding:.5rem}\n" \
"header,main,footer,nav ul{max-width:76rem;margin:0 auto;padding:0 1.5rem}\n" \
"header{padding-top:2.5rem}\n" \
"h1{font-size:1.9rem;line-height:1.2;letter-spacing:-.01em;margin:0 0 .35rem}\n" \
"h2{font-size:1.3rem;margin:0 0 .35rem;line-height:1.3}\n" \
"h3{font-size:1rem;margin:1.6rem 0 .4rem}\n" \
"p{margin:.35rem 0 .8rem;max-width:46rem}\n" \
".soft,caption,footer{color:var(--soft)}\n" \
"nav{position:sticky;top:0;background:var(--bg);border-bottom:1px solid var(--line);z-index:2;margin-top:1.4rem}\n" \
"nav ul{display:flex;gap:1.2rem;overflow-x:auto;list-style:none;padding-top:.6rem;padding-bottom:.6rem;white-space:nowrap;font-size:.9rem}\n" \
"nav a{text-decoration:none}nav a:hover,nav a:focus{text-decoration:underline}\n" \
"section{padding:2rem 0 .5rem;scroll-margin-top:3rem}\n" \
".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(8rem,1fr));gap:.75rem;margin:1.4rem 0 0;padding:0}\n" \
".tiles div{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.75rem .9rem}\n" \
".tiles dt{color:var(--soft);font-size:.85rem}.tiles dd{margin:0;font-size:1.5rem;font-weight:600;font-variant-numeric:tabular-nums}\n" \
".allow{color:var(--allow)}.deny{color:var(--deny)}.fail{color:var(--fail)}.none{color:var(--soft);opacity:.75}\n" \
".state{background:var(--card);border:1px solid var(--line);border-left:.35rem solid var(--good);border-radius:.5rem;padding:.7rem 1rem;margin:1.2rem 0 0}\n" \
".state.bad{border-left-color:var(--deny)}.state p{margin:.1rem 0;max-width:none}\n" \
".scroll{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:.6rem;margin:.7rem 0 1rem}\n" \
"table{border-collapse:collapse;width:100%;font-size:.92rem}\n" \
"caption{text-align:left;padding:.6rem .8rem .3rem;font-size:.85rem}\n" \
"th,td{text-align:left;vertical-align:top;padding:.45rem .8rem;border-top:1px solid var(--line)}\n" \
"thead th{border-top:0;color:var(--soft);font-weight:600;font-size:.82rem;white-space:nowrap;vertical-align:bottom}\n" \
"td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}\n" \
"time{white-space:nowrap;font-variant-numeric:tabular-nums}\n" \
"td>span,td>code{display:inline-block;max-width:25rem;overflow-wrap:break-word}td>code{max-width:17rem}td:first-child>span{max-width:19rem}td .none{opacity:.75}\n" \
"table:has(th:nth-child(7)) td>span{max-width:12rem}table:has(th:nth-child(7)) td>code{max-width:10.2rem}" \
"table:has(th:nth-child(7)) td:first-child>span{max-width:19rem}table:has(th:nth-child(9)) td>span,table:has(th:nth-child(9)) td:first-child>span{max-width:11rem}" \
"table:not(:has(th:nth-child(3))) td>span{max-width:46rem}\n" \
"h3+.scroll caption,h3+.filter+.scroll caption{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);padding:0}\n" \
"tbody tr:hover{background:var(--code)}\n" \
"code{font:.9em/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,\"DejaVu Sans Mono\",monospace;background:var(--code);border-radius:.25rem;padding:.05rem .3rem;overflow-wrap:anywhere}\n" \
"td small{display:block;color:var(--soft);font-size:.85em}\n" \
"th button{all:unset;cursor:pointer}th button:hover,th button:focus-visible{text-decoration:underline;color:var(--ink)}\n" \
"th[aria-sort=ascending] button::after{content:\" \\2191\"}th[aria-sort=descending] button::after{content:\" \\2193\"}\n" \
".filter{font:inherit;font-size:.9rem;color:inherit;background:var(--card);border:1px solid var(--line);border-radius:.4rem;padding:.35rem .6rem;width:min(20rem,100%);margin-top:.4rem}\n" \
"figure{margin:.8rem 0 1rem;background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.9rem 1rem}\n" \
"figcaption{color:var(--soft);font-size:.85rem;margin-bottom:.7rem;display:flex;flex-wrap:wrap;gap:.2rem 1.2rem}\n" \
"figcaption strong{color:var(--ink)}\n" \
".plot{display:grid;grid-template-columns:auto 1fr;gap:.2rem .6rem;font-size:.78rem;color:var(--soft);font-variant-numeric:tabular-nums}\n" \
".plot .y{display:flex;flex-direction:column;justify-content:space-between;text-align:right;line-height:1}\n" \
".plot .x{grid-column:2;display:flex;justify-content:space-between;gap:.5rem}\n" \
".plot svg{display:block;width:100%;height:12rem;border-bottom:1px solid var(--line);border-left:1px solid var(--line)}\n" \
".bars .a{fill:var(--allow)}.bars .d{fill:var(--deny)}.bars .f{fill:var(--fail)}.grid{stroke:var(--line);stroke-width:1;vector-effect:non-scaling-stroke}\n" \
".key::before{content:\"\";display:inline-block;width:.7rem;height:.7rem;border-radius:.15rem;margin-right:.4rem;background:var(--allow)}\n" \
".key.d::before{background:var(--deny)}.key.f::before{background:var(--fail)}\n" \
".span{display:block;width:100%;min-width:8rem;height:1.1rem}\n" \
".span .r{fill:var(--allow);opacity:.45}.span .m{stroke:var(--ink);stroke-width:2;vector-effect:non-scaling-stroke}.span .b{stroke:var(--line);stroke-width:1;vector-effect:non-scaling-stroke}\n" \
"details{margin:.4rem 0 1rem}summary{cursor:pointer;color:var(--accent);font-size:.9rem}\n" \
"ul.plain{padding-left:1.2rem}\n" \
"footer{padding-top:2rem;padding-bottom:3rem;font-size:.85rem}\n" \
"@media (max-width:40rem){header,main,footer,nav ul{padding-left:1rem;padding-right:1rem}header{padding-top:1.5rem}h1{font-size:1.5rem}" \
".tiles{grid-template-columns:1fr 1fr}.tiles dd{font-size:1.25rem}" \
"figure{padding:.7rem}.plot svg{height:9rem}.plot .x span:nth-child(even){display:none}" \
".scroll{border:0;background:none;overflow:visible}table,caption,tbody,tr,td{display:block}" \
"thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}" \
"caption{padding:.2rem 0 .5rem}tbody tr{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.4rem .8rem;margin:0 0 .6rem}" \
"td>span,td>code,td:first-child>span{max-width:100%;overflow-wrap:anywhere}td,td.n{display:grid;grid-template-columns:7rem minmax(0,1fr);gap:.6rem;border-top:0;padding:.2rem 0;text-align:left;white-space:normal}" \
"td::before{content:attr(data-label);color:var(--soft);font-size:.85rem}td>*{justify-self:start}td>.span{justify-self:stretch}}\n" \
"@media print{:root{--bg:#fff;--card:#fff;--ink:#000;--soft:#444;--line:#bbb;--code:#f4f4f4;--allow:#1f7a8c;--deny:#b3261e;--fail:#9a6700}" \
"@page{margin:14mm}body{font-size:10pt}nav,.filter,.skip,details summary{display:none}header,main,footer{max-width:none;padding:0}" \
"section{padding:1rem 0 0}h2,h3,h2+p,caption{break-after:avoid}tr,figure,.state,.tiles div{break-inside:avoid}.scroll{overflow:visible;border:0}" \
"table{font-size:7.5pt}td>span,td>code{max-width:11rem}td:first-child>span{max-width:13rem}td:first-child{min-width:0}thead th{font-size:7.5pt}" \
"table:not(:has(th:nth-child(6))) td>span{max-width:17rem}table:not(:has(th:nth-child(6))) td>code{max-width:9rem}table:not(:has(th:nth-child(3))) td>span{max-width:34rem}" \
"table:has(th:nth-child(7)) td>span,table:has(th:nth-child(7)) td>code{max-width:8rem}table:has(th:nth-child(7)) td:first-child>span{max-width:13rem}table:has(th:nth-child(9)) td:first-child>span{max-width:8rem}td>span,td>code{overflow-wrap:anywhere}" \
"thead{display:table-header-group;break-inside:avoid;break-after:avoid}th button{display:contents}th,td{padding:.2rem .4rem}thead th{white-space:normal}.tiles{grid-template-columns:repeat(4,1fr)}a{color:inherit;text-decoration:none}" \
".key::before,.bars *{print-color-adjust:exact;-webkit-print-color-adjust:exact}}\n"

#define SCRIPT "\n" \
"'use strict';\n" \
"for (const table of document.querySelectorAll('table')) {\n" \
"  const body = table.tBodies[0], rows = [...body.rows];\n" \
"  if (rows.length < 2) continue;\n" \
"  const heads = [...table.tHead.rows[0].cells];\n" \
"  const value = (row, i) => {\n" \
"    const text = row.cells[i].textContent.trim();\n" \
"    return heads[i].classList.contains('n') ? parseFloat(text.replace(/[^0-9.]/g, '')) || 0 : text;\n" \
"  };\n" \
"  heads.forEach((head, i) => {\n" \
"    const button = document.createElement('button');\n" \
"    button.type = 'button';\n" \
"    button.textContent = head.textContent;\n" \
"    head.replaceChildren(button);\n" \
"    button.addEventListener('click', () => {\n" \
"      const down = head.getAttribute('aria-sort') !== 'descending';\n" \
"      heads.forEach(other => other.removeAttribute('aria-sort'));\n" \
"      head.setAttribute('aria-sort', down ? 'descending' : 'ascending');\n" \
"      const order = (a, b) => { const x = value(a, i), y = value(b, i); return x < y ? -1 : x > y ? 1 : 0; };\n" \
"      body.append(...rows.sort((a, b) => down ? order(b, a) : order(a, b)));\n" \
"    });\n" \
"  });\n" \
"  if (rows.length > 10) {\n" \
"    const filter = document.createElement('input');\n" \
"    filter.type = 'search';\n" \
"    filter.className = 'filter';\n" \
"    filter.placeholder = 'Filter these rows';\n" \
"    filter.setAttribute('aria-label', 'Filter: ' + table.caption.textContent);\n" \
"    filter.addEventListener('input', () => {\n" \
"      const wanted = filter.value.toLowerCase();\n" \
"      for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);\n" \
"    });\n" \
"    table.closest('.scroll').before(filter);\n" \
"  }\n" \
"}\n"
/* clang-format on */

#endif
